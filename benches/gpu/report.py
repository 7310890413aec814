"""The report: one Markdown page from what was measured, and what in it is wrong."""

#: Mean difference of 255 that the issue allows against the CPU engine.
ALLOWED = {"f32": 0.5, "half": 1.0}


def table(head, rows):
    """Markdown; the first column is text, the others are numbers."""
    lines = [f"| {' | '.join(head)} |", f"| --- {'| ---: ' * (len(head) - 1)}|"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def page(results):
    parts = [head(results["facts"])]
    writers = {"correctness": correctness, "painting": painting, "training": training, "profile": profile}
    for name, write in writers.items():
        text = write(results[name]) + failures(results[name]) if results.get(name) else "Not measured.\n"
        parts.append(f"\n## {name.capitalize()}\n\n{text}")
    return "".join(parts)


def head(facts):
    trial = facts["quick"] or not facts["device"].startswith("cuda")
    warning = (
        "**A trial run of the scripts: small sizes or no NVIDIA card. It shows that they work; the times mean nothing.**\n\n"
        if trial
        else ""
    )
    chosen, on = facts["torch_settings"], {True: "on", False: "off"}
    capability = f", compute capability {facts['capability']}" if facts["capability"] else ""
    return (
        f"# impasto and PyTorch on {facts['card']}\n\n{warning}"
        f"{facts['date']}, impasto {facts['version']}, device {facts['device']} ({facts['card']}). "
        f"PyTorch {facts['torch']} on {facts['torch_device']}{capability}; cuDNN's choice of convolutions by trying: "
        f"{on[chosen['cudnn_benchmark']]}, TF32 in f32 convolutions: {on[chosen['cudnn_tf32']]}, f32 matrix products: "
        f"precision \"{chosen['matmul_precision']}\" (\"high\": TF32). CubeCL takes TF32 for f32 matrix work where the card "
        f"has it. {facts['system']}.\n\n"
        "Turns alternate within one row; times are medians of the turns. Half: bf16 for impasto on CUDA, f16 through wgpu; "
        "f16 for PyTorch's painting, bf16 for its training.\n"
    )


def correctness(rows):
    def cell(found):
        return f"{found['mean']:.3f} ({found['largest']:.1f})" if found else "–"

    body = [
        [
            named(row),
            cell(row.get("engine_torch")),
            *(cell(row.get(precision, {}).get(against)) for precision in ALLOWED for against in ["engine", "torch"]),
        ]
        for row in rows
    ]
    names = ["CPU engine to PyTorch", "f32 to engine", "f32 to PyTorch", "half to engine", "half to PyTorch"]
    return (
        "Differences of 255, mean (largest), before rounding. The CPU engine and PyTorch's reference are f32 without "
        "TF32.\n\n" + table(["model", *names], body)
    )


def painting(rows):
    rows = sorted(rows, key=lambda row: (-row["width"], pixels(row), row["precision"]))
    text = (
        "Frames a second, 8-bit frames from memory to memory; the ratio is impasto's over PyTorch's of the same kind. "
        f"{turns(rows)}\n"
    )
    for suffix, title in [("", "One after the other"), (", overlapping", "Overlapping")]:
        names = [name + suffix for name in ["impasto", "PyTorch eager", "torch.compile"]]
        body = []
        for row in rows:
            seconds = row.get("seconds", {})
            rates = [1 / seconds[name] if name in seconds else None for name in names]
            ratios = [rates[0] / rate if rates[0] and rate else None for rate in rates[1:]]
            body.append([named(row)] + [number(rate) for rate in rates] + [number(ratio, "×") for ratio in ratios])
        text += f"\n{title}:\n\n" + table(
            ["frame", "impasto", "PyTorch eager", "torch.compile", "to eager", "to compiled"], body
        )
    general = "impasto, general operations"
    body = []
    for row in rows:
        ours, generals = (row.get("seconds", {}).get(name) for name in ["impasto", general])
        if ours and generals:
            body.append([named(row), number(1e3 * ours), number(1e3 * generals), number(generals / ours, "×")])
    if body:
        text += "\nimpasto's kernels between convolutions and Burn's general operations, milliseconds a frame:\n\n"
        text += table(["frame", "own kernels", "general operations", "times as fast"], body)
    return text


def training(rows):
    body = []
    for row in rows:
        rates = row.get("images_per_second", {})
        ours = rates.get("impasto")
        for name, rate in rates.items():
            memory = row["memory"].get(name)
            body.append(
                [
                    f"{name}, {row['precision']}",
                    number(rate),
                    number(ours / rate if ours else None, "×"),
                    "–" if memory is None else f"{memory / 1e9:.2f}",
                    f"{loss_of(row, name):.4g}",
                ]
            )
    first = rows[0]
    text = (
        f"Batch {first['batch']}, {first['side']}², width {first['width']}, {first['loss_network']}. {turns(rows)} The loss "
        "is that before the last step taken; the contestants take different numbers of steps.\n\n"
        + table(["", "images/s", "impasto to it", "memory, GB", "loss"], body)
        + "\nMemory, of both: how much more of the card is in use after some steps than before the training was set up, the "
        "CUDA context being there already. It holds weights, activations, workspaces and the code of kernels that were not "
        "loaded before. impasto's pool gives nothing back: what tuning took is in its figure where the cache folder did not "
        "have it yet. PyTorch's allocator has given back what trying out convolutions took.\n"
    )
    for row in rows:
        if named_so := row.get("with_context"):
            text += f"\nWith the CUDA context, {row['precision']}: {', '.join(named_so)}.\n"
    if apart := next((row["torch_apart"] for row in rows if "torch_apart" in row), None):
        text += (
            "\nOne small step of PyTorch's side and of tests/golden's plain network and losses, on the CPU in f32: loss "
            f"{apart['loss']:.0e}, gradients {apart['gradients']:.0e} apart (a ReLU that tips by rounding moves gradients by "
            "1e-3).\n"
        )
    return text


def profile(rows):
    text = (
        "One frame. impasto: the device made to finish after each operation, so that nothing fuses or overlaps; PyTorch: "
        "its profiler, eager.\n"
    )
    for row in rows:
        text += f"\n### {named(row)}\n"
        for name in ["impasto", "impasto, general operations"]:
            if name not in row:
                continue
            sums = {}
            for item in row[name]:
                count, ms = sums.get(item["operation"], (0, 0.0))
                sums[item["operation"]] = (count + 1, ms + item["ms"])
            total = sum(ms for _, ms in sums.values())
            body = sorted(sums.items(), key=lambda item: -item[1][1])
            text += "\n" + table(
                [name, "times", f"ms, {total:.3f} in all", "share"],
                [[name, count, f"{ms:.3f}", share(ms, total)] for name, (count, ms) in body],
            )
            slowest = sorted(row[name], key=lambda item: -item["ms"])[:10]
            body = [[f"{item['layer']}: {item['operation']}", f"{item['ms']:.3f}"] for item in slowest]
            text += "\n" + table([f"{name}: slowest", "ms"], body)
        if "PyTorch" in row:
            total = sum(ms for _, ms in row["PyTorch"])
            body = [[f"`{name[:80]}`", f"{ms:.3f}", share(ms, total)] for name, ms in row["PyTorch"][:12]]
            text += "\n" + table(["PyTorch, operation", "ms", "share"], body)
    return text


def named(row):
    """A row's first cell: what tells it from the others."""
    parts = [row.get("model"), row.get("size"), f"width {row['width']}" if "width" in row else None, row.get("precision")]
    return ", ".join(part for part in parts if part)


def pixels(row):
    width, height = row["size"].split("×")
    return int(width) * int(height)


def turns(rows):
    """How many turns, and of what length, the figures are from."""
    counts = sorted({count for row in rows for count in row.get("turns", {}).values()})
    lengths = sorted({row["turn_seconds"] for row in rows if "turn_seconds" in row})
    if not counts:
        return "No turn was taken."
    return f"Turns: {' to '.join(map(str, ends(counts)))} of about {' to '.join(f'{length:g}' for length in ends(lengths))} s."


def ends(found):
    return found[:1] if len(found) < 2 else [found[0], found[-1]]


def loss_of(row, name):
    """`null` is what JSON makes of NaN."""
    loss = row.get("losses", {}).get(name)
    return float("nan") if loss is None else loss


def share(part, whole):
    return f"{100 * part / whole:.0f} %" if whole else "–"


def number(value, unit=""):
    if value is None:
        return "–"
    return f"{value:.2f}{unit}" if value < 100 else f"{value:.0f}{unit}"


def failures(rows):
    """What is not in the tables, each reason once, with the rows that it concerns."""
    found = {}
    for row in rows:
        for name, reason in row["failed"].items():
            found.setdefault((name, reason), []).append(named(row))
    lines = [f"- {name} ({'; '.join(where)}): {reason}\n" for (name, reason), where in found.items()]
    return "\nLeft out:\n\n" + "".join(lines) if lines else ""


def wrong(results):
    """A line for each thing that is not what it should be."""
    lines = []
    for row in results.get("correctness", []):
        for precision, allowed in ALLOWED.items():
            # Half precision is refused on the CPU and on some wgpu devices, and that is right.
            if precision in row["failed"] and (precision == "f32" or results["facts"]["device"].startswith("cuda")):
                lines.append(f"{named(row)}: {precision}: {row['failed'][precision]}")
            found = row.get(precision, {}).get("engine")
            # `not <=`, so that NaN is wrong too.
            if found and not found["mean"] <= allowed:
                lines.append(
                    f"{named(row)}: {precision} is {found['mean']:.3f} of 255 from the CPU engine, "
                    f"expected at most {allowed}"
                )
    for row in results.get("training", []):
        for name in row.get("images_per_second", {}):
            if not abs(loss_of(row, name)) < float("inf"):
                lines.append(f"training {row['precision']}: {name}'s loss is {loss_of(row, name)}: its speed says nothing")
    return lines
