"""The report: one Markdown page from what was measured, and what in it is wrong."""

#: Mean difference of 255 that the issue allows against the CPU engine.
ALLOWED = {"f32": 0.5, "half": 1.0}


def table(head, rows):
    """Markdown; the first column is text, the others are numbers."""
    lines = [f"| {' | '.join(head)} |", f"| --- {'| ---: ' * (len(head) - 1)}|"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return "\n".join(lines) + "\n"


def page(results):
    facts = results["facts"]
    parts = [head(facts)]
    writers = {"correctness": correctness, "painting": painting, "training": training, "profile": profile}
    for name, write in writers.items():
        title = f"\n## {name.capitalize()}\n\n"
        parts.append(title + (write(results[name]) if name in results else "Not measured.\n"))
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
        f"precision \"{chosen['matmul_precision']}\" (\"high\": TF32). CubeCL takes TF32 for f32 matrix work where the card has "
        f"it. {facts['system']}.\n\n"
        "Turns alternate within one run; times are medians of the turns. Half: bf16 for impasto on CUDA, f16 through wgpu; "
        "f16 for PyTorch's painting, bf16 for its training.\n"
    )


def correctness(rows):
    def cell(row, precision, against):
        found = row[precision]
        return "refused" if "error" in found else f"{found[against]['mean']:.3f} ({found[against]['largest']:.1f})"

    body = [
        [
            f"{row['model']}, {row['size']}",
            f"{row['engine_torch']['mean']:.3f} ({row['engine_torch']['largest']:.1f})",
            *(cell(row, precision, against) for precision in ALLOWED for against in ["engine", "torch"]),
        ]
        for row in rows
    ]
    names = ["CPU engine to PyTorch", "f32 to engine", "f32 to PyTorch", "half to engine", "half to PyTorch"]
    notes = {row[precision]["error"] for row in rows for precision in ALLOWED if "error" in row[precision]}
    return (
        "Differences of 255, mean (largest), before rounding. The CPU engine and PyTorch's reference are f32 without TF32.\n\n"
        + table(["model", *names], body)
        + "".join(f"\n{note}\n" for note in sorted(notes))
    )


def painting(rows):
    text = "Frames a second, 8-bit frames from memory to memory; the ratio is impasto's over PyTorch's of the same kind.\n"
    for suffix, title in [("", "One after the other"), (", overlapping", "Overlapping")]:
        names = [name + suffix for name in ["impasto", "PyTorch eager", "torch.compile"]]
        body = []
        for row in rows:
            rates = [1 / row["seconds"][name] if name in row["seconds"] else None for name in names]
            ratios = [rates[0] / rate if rates[0] and rate else None for rate in rates[1:]]
            body.append(
                [f"{row['size']}, width {row['width']}, {row['precision']}"]
                + [number(rate) for rate in rates]
                + [number(ratio, "×") for ratio in ratios]
            )
        text += f"\n{title}:\n\n" + table(
            ["frame", "impasto", "PyTorch eager", "torch.compile", "to eager", "to compiled"], body
        )
    general = "impasto, general operations"
    body = [
        [
            f"{row['size']}, width {row['width']}, {row['precision']}",
            number(1e3 * row["seconds"]["impasto"]),
            number(1e3 * row["seconds"][general]),
            number(row["seconds"][general] / row["seconds"]["impasto"], "×"),
        ]
        for row in rows
        if {"impasto", general} <= row["seconds"].keys()
    ]
    if body:
        text += "\nimpasto's kernels between convolutions and Burn's general operations, milliseconds a frame:\n\n"
        text += table(["frame", "own kernels", "general operations", "times as fast"], body)
    return text + failures(rows)


def training(rows):
    body = []
    for row in rows:
        rates = row["images_per_second"]
        ours = rates.get("impasto")
        for name, rate in rates.items():
            memory = row["memory"].get(name)
            body.append(
                [
                    f"{name}, {row['precision']}",
                    number(rate),
                    number(ours / rate if ours else None, "×"),
                    "–" if memory is None else f"{memory / 1e9:.2f}",
                    f"{row['losses'].get(name, float('nan')):.4g}",
                ]
            )
    first = rows[0]
    apart = first["torch_apart"]
    return (
        f"Batch {first['batch']}, {first['side']}², width {first['width']}, {first['loss_network']}. Memory is what the "
        "allocator holds of the card. The loss is that before the last step taken; the contestants take different numbers "
        f"of steps. One small step of PyTorch's side and of tests/golden's plain network and losses, on the CPU in f32: loss "
        f"{apart['loss']:.0e}, gradients {apart['gradients']:.0e} apart (a ReLU that tips by rounding moves gradients by 1e-3).\n\n"
        + table(["", "images/s", "impasto to it", "memory, GB", "loss"], body)
        + failures(rows)
    )


def profile(rows):
    text = "One frame. impasto: the device made to finish after each operation, so that nothing fuses or overlaps; PyTorch: its profiler, eager.\n"
    for row in rows:
        text += f"\n### {row['size']}, width {row['width']}, {row['precision']}\n\n"
        if "refused" in row:
            text += f"impasto: {row['refused']}\n\n"
        for name in ["impasto", "impasto, general operations"]:
            if name not in row:
                continue
            sums = {}
            for item in row[name]:
                count, ms = sums.get(item["operation"], (0, 0.0))
                sums[item["operation"]] = (count + 1, ms + item["ms"])
            total = sum(ms for _, ms in sums.values())
            body = sorted(sums.items(), key=lambda item: -item[1][1])
            text += table(
                [name, "times", f"ms, {total:.3f} in all", "share"],
                [[name, count, f"{ms:.3f}", f"{100 * ms / total:.0f} %"] for name, (count, ms) in body],
            )
            slowest = sorted(row[name], key=lambda item: -item["ms"])[:10]
            text += "\n" + table(
                [f"{name}: slowest", "ms"], [[f"{item['layer']}: {item['operation']}", f"{item['ms']:.3f}"] for item in slowest]
            ) + "\n"
        total = sum(ms for _, ms in row["torch"])
        body = [[f"`{name[:80]}`", f"{ms:.3f}", f"{100 * ms / total:.0f} %"] for name, ms in row["torch"][:12]]
        text += table(["PyTorch, operation", "ms", "share"], body)
    return text


def number(value, unit=""):
    if value is None:
        return "–"
    return f"{value:.2f}{unit}" if value < 100 else f"{value:.0f}{unit}"


def failures(rows):
    lines = sorted({f"{name}: {reason}" for row in rows for name, reason in row["failed"].items()})
    return "".join(f"\nLeft out: {line}\n" for line in lines)


def wrong(results):
    """One line when a picture is not what it should be, else `None`."""
    for row in results.get("correctness", []):
        for precision, allowed in ALLOWED.items():
            found = row[precision].get("engine")
            # `not <=`, so that NaN is wrong too.
            if found and not found["mean"] <= allowed:
                return (
                    f"{row['model']}, {row['size']}: {precision} is {found['mean']:.3f} of 255 from the CPU engine, "
                    f"expected at most {allowed}"
                )
    return None
