"""Times impasto and its peers: the same networks, frames and threads, interleaved in one run; one table each.

    benches/peers/run                                  widths 16 and 32 with random weights, 640x480, 2 threads
    benches/peers/run --widths 16 --sizes 1280x720 --precisions f32 --json out.json
    benches/peers/run --model my.safetensors --threads 4
    benches/peers/run --rounds 0                       only what bf16 costs on the photos (IMPASTO_TEST_DATA)

README.md says how it measures and what the columns mean.
"""

import argparse
import contextlib
import importlib.metadata
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import engines
import networks
from engines import EngineError, Impasto, Job, Peer, Variant

# A right f32 engine is within rounding of PyTorch (0.005 measured), a wrong one is tens of grey levels away.
LARGEST_F32_DIFFERENCE = 0.25
# bf16 loses what it loses (38 to 44 dB measured with random weights); a wrong engine is far below 30 dB.
LEAST_BF16_PSNR = 30.0
# Pause before an engine's turn, for the threads of the one before it to fall asleep.
PAUSE = 0.1


def say(text):
    print(text, file=sys.stderr, flush=True)


# --------------------------------------------------------------------------------------------------- arguments


def arguments():
    def size(text):
        try:
            width, height = map(int, text.lower().split("x"))
        except ValueError:
            raise argparse.ArgumentTypeError(f"`{text}`: expected WIDTHxHEIGHT, such as 640x480") from None
        if min(width, height) < 8:
            raise argparse.ArgumentTypeError(f"`{text}`: expected sides of at least 8 pixels")
        return width, height

    def listed(of):
        return lambda text: [of(part) for part in text.split(",") if part]

    def precision(text):
        if text not in ("f32", "bf16"):
            raise argparse.ArgumentTypeError(f"`{text}`: expected f32 or bf16")
        return text

    parser = argparse.ArgumentParser(prog="run", description=__doc__.splitlines()[0])
    parser.add_argument("--impasto", type=Path, required=True, help=argparse.SUPPRESS)
    add = parser.add_argument
    add("--widths", type=listed(int), metavar="W,…", help="networks with random weights [default: 16,32]")
    add("--model", type=Path, action="append", default=[], metavar="FILE", help="a style model; may be repeated")
    add("--sizes", type=listed(size), default=[(640, 480)], metavar="WxH,…", help="frame sizes [default: 640x480]")
    add("--precisions", type=listed(precision), default=["f32", "bf16"], metavar="P,…", help="[default: f32,bf16]")
    add("--threads", type=int, default=2, help="threads of every engine [default: 2]")
    add("--rounds", type=int, default=10, help="turns of each engine [default: 10]; 0: no timing")
    add("--frames", type=int, default=5, help="timed frames a turn [default: 5]")
    add("--warmup", type=int, default=2, help="untimed frames a turn [default: 2]")
    add("--tune", type=int, default=5, metavar="FRAMES", help="frames to choose a peer's set-up by; 0: the usual best")
    add("--photo", type=Path, help="paint this picture, resized, instead of a synthetic one")
    add("--isa", default="avx2", help="also measure impasto with this IMPASTO_ISA in f32 [default: avx2]; none: do not")
    add("--pretrained", action="store_true", help="compare bf16 on the test data's pretrained networks too")
    add("--no-psnr", action="store_true", help="do not compare bf16 on the photos")
    add("--json", type=Path, metavar="OUT", help="write everything measured to this file")
    args = parser.parse_args()
    if args.widths is None:
        args.widths = [] if args.model else [16, 32]
    for value, name, least in [(args.threads, "threads", 1), (args.frames, "frames", 1), (args.rounds, "rounds", 0)]:
        if value < least:
            parser.error(f"--{name} {value}: expected at least {least}")
    for path in [args.impasto, *args.model, *([args.photo] if args.photo else [])]:
        if not path.is_file():
            parser.error(f"{path}: no such file")
    args.impasto = args.impasto.resolve()
    return args


# --------------------------------------------------------------------------------------------------- the machine


def machine(binary):
    """What the figures depend on besides the programs, and how quiet it was."""
    model, flags = platform.processor() or platform.machine(), set()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() == "flags":
                flags = set(value.split())
    done = subprocess.run([binary, "--version"], capture_output=True, text=True)
    versions = {"impasto": done.stdout.strip().removeprefix("impasto ")}
    for package in ("torch", "onnxruntime", "openvino", "numpy"):
        versions[package] = importlib.metadata.version(package)
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "isa": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
        "busy_before": busy(),
    }


def busy(seconds=1.0):
    """Share of the processor's time that others were using just now; None where that is not known."""

    def ticks():
        values = [int(value) for value in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(values), values[3] + values[4]  # all, idle

    try:
        total, idle = ticks()
        time.sleep(seconds)
        total_after, idle_after = ticks()
    except (OSError, ValueError, IndexError):
        return None
    return 1 - (idle_after - idle) / max(1, total_after - total)


def describe(facts):
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    text = f"{facts['cpu']}, {facts['cores']} cores, {' '.join(facts['isa']) or 'no AVX2'}, {facts['system']}; {versions}."
    if facts["busy_before"] is not None:
        text += f" Before the run the machine was {facts['busy_before']:.0%} busy with other work."
    return text


# --------------------------------------------------------------------------------------------------- pictures


def synthetic(width, height):
    """A picture as a photo has it: smooth gradients, shapes with edges, a little noise; the same every time."""
    random = np.random.default_rng(1)
    y, x = np.mgrid[0:height, 0:width]
    u, v = x / width, y / height
    picture = np.stack([220 * u + 20, 200 * v + 30, 230 - 190 * u * v], axis=-1)
    for _ in range(40):
        (cx, cy), radius = random.uniform(0, 1, 2), 0.02 / (1 - 0.9 * random.uniform())
        inside = (u - cx) ** 2 + (v - cy) ** 2 < radius**2
        picture[inside] = random.uniform(0, 255, 3) * (0.7 + 0.3 * v[inside, None])
    return np.clip(picture + random.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)


def base_picture(photo, width, height):
    if photo is None:
        return synthetic(width, height)
    from PIL import Image

    return np.array(Image.open(photo).convert("RGB").resize((width, height), Image.Resampling.LANCZOS))


def psnr(one, other):
    """`10 log10(255² / mean squared difference)` of two 8-bit pictures, at most 99 dB."""
    mean = np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2)
    return 99.0 if mean == 0 else min(99.0, 10 * math.log10(255**2 / mean))


# --------------------------------------------------------------------------------------------------- timing


@dataclass
class Row:
    """One engine at one precision."""

    engine: str
    asked: str
    precision: str
    forced_isa: str | None
    median_ms: float
    min_ms: float
    turn_medians_ms: list
    mean_difference: float
    psnr: float
    peak_mb: float
    how: str
    times_impasto: float | None = None

    def agrees(self):
        if self.precision == "f32":
            return self.mean_difference <= LARGEST_F32_DIFFERENCE
        return self.psnr >= LEAST_BF16_PSNR


def contestants(args, job):
    """Every engine that works here, ours first; a notice for each that does not."""
    plans = []
    for precision in args.precisions:
        plans.append(lambda precision=precision: Impasto(args.impasto, job, precision).probe())
        if precision == "f32" and args.isa != "none":
            plans.append(lambda: Impasto(args.impasto, job, "f32", args.isa).probe())
    for name, (_, by_precision) in engines.PEERS.items():
        for precision in args.precisions:
            if precision in by_precision:
                plans.append(
                    lambda name=name, precision=precision: engines.fastest(name, job, precision, args.tune, say)
                )
    with contextlib.ExitStack() as stack:
        ready = []
        for plan in plans:
            try:
                ready.append(plan())
                stack.callback(ready[-1].close)
            except EngineError as error:
                say(f"  left out: {error}")
        return ready, stack.pop_all()


def race(args, job):
    """All engines on one network and size: rounds of turns, each round begun by another engine."""
    rgb = job.frame()
    reference = Peer("reference", engines.build_reference, job, "f32", Variant(""))
    truth = reference.paint(rgb)
    reference.close()
    ready, stack = contestants(args, job)
    with stack:
        turns = [[] for _ in ready]
        for number in range(args.rounds):
            say(f"  round {number + 1} of {args.rounds}")
            for place in range(len(ready)):
                which = (number + place) % len(ready)
                time.sleep(PAUSE)
                first = number * (args.warmup + args.frames)
                turns[which].append(ready[which].turn(first, args.warmup, args.frames))
        rows = []
        for engine, taken in zip(ready, turns, strict=True):
            painted = engine.paint(rgb)
            medians = [turn.median for turn in taken]
            rows.append(
                Row(
                    engine=engine.name,
                    asked=engine.asked,
                    precision=engine.precision,
                    forced_isa=getattr(engine, "forced", None),
                    median_ms=statistics.median(medians),
                    min_ms=min(turn.least for turn in taken),
                    turn_medians_ms=medians,
                    mean_difference=float(np.abs(painted.astype(int) - truth.astype(int)).mean()),
                    psnr=psnr(painted, truth),
                    peak_mb=engine.peak_mb,
                    how=engine.how,
                )
            )
    for row in rows:
        ours = [r for r in rows if r.engine.startswith("impasto") and r.forced_isa is None]
        ours = next((r for r in ours if r.precision == row.precision), None)
        row.times_impasto = None if ours is None else row.median_ms / ours.median_ms
    return rows


def table(rows):
    lines = [
        "| engine | precision | median ms | min ms | × impasto | against PyTorch f32 | peak MB | how it ran |",
        "| --- | --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for row in sorted(rows, key=lambda row: (row.precision != "f32", row.median_ms)):
        precision = row.precision if row.precision == row.asked else f"{row.precision} (asked {row.asked})"
        ratio = "–" if row.times_impasto is None else f"{row.times_impasto:.2f}"
        agreement = f"mean difference {row.mean_difference:.3f}" if row.precision == "f32" else f"{row.psnr:.1f} dB"
        if not row.agrees():
            agreement = f"**wrong picture**: mean difference {row.mean_difference:.1f}, {row.psnr:.1f} dB"
        lines.append(
            f"| {row.engine} | {precision} | {row.median_ms:.1f} | {row.min_ms:.1f} | {ratio} | {agreement} "
            f"| {f'{row.peak_mb:.0f}' if row.peak_mb else '–'} | {row.how} |"
        )
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------------- bf16


def compare_bf16(args, data, folder):
    """Per model: PSNR of the bf16 paintings of the photos against the same engine's f32, ours and OpenVINO's."""
    from PIL import Image

    photos = sorted((data / "photos" / "eval").glob("*.png"))
    if not photos:
        sys.exit(f"{data}: no photos/eval/*.png; expected the folder that tests/golden/README.md describes")
    rows = []
    for label, model in style_models(args, data, folder):
        say(f"bf16 on {len(photos)} photos: {label}")
        peers, decibels = {}, {"impasto": [], "OpenVINO": []}
        with contextlib.ExitStack() as stack:
            for photo in photos:
                job = Job.prepare(model, photo, args.threads, folder)
                rgb = job.frame()
                ours = [Impasto(args.impasto, job, precision).paint(rgb) for precision in ("f32", "bf16")]
                decibels["impasto"].append(psnr(*ours))
                if rgb.shape not in peers:
                    build, _ = engines.PEERS["OpenVINO"]
                    pair = [Peer("OpenVINO", build, job, p, Variant("")) for p in ("f32", "bf16")]
                    for peer in pair:
                        stack.callback(peer.close)
                    peers[rgb.shape] = pair
                decibels["OpenVINO"].append(psnr(*(peer.paint(rgb) for peer in peers[rgb.shape])))
            ran = sorted({pair[1].precision for pair in peers.values()})
        rows.append({"model": label, "openvino_ran": ran, "psnr": decibels})
    return rows


def style_models(args, data, folder):
    """Names and files to compare on: the shipped styles, those asked for, and if wanted the pretrained networks."""
    shipped = sorted((networks.ROOT / "checkpoints" / "styles").glob("*.safetensors"))
    models = [(path.stem, path) for path in shipped + args.model]
    if args.pretrained:
        foreign = data / "styles-pretrained"
        for path in sorted([*foreign.glob("*/*.model"), *foreign.glob("*/*.safetensors")]):
            model = folder / f"{path.parent.name}-{path.stem}.safetensors"
            done = subprocess.run(
                [args.impasto, "styles", "import", path, "-o", model, "--quiet"], capture_output=True, text=True
            )
            if done.returncode != 0:
                sys.exit(f"{path}: {' '.join(done.stderr.split())}")
            models.append((f"{path.parent.name}/{path.stem}", model))
    return models


def bf16_table(rows):
    lines = [
        "| model | impasto bf16: mean dB | worst photo | OpenVINO bf16: mean dB | worst photo |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        ours, theirs = row["psnr"]["impasto"], row["psnr"]["OpenVINO"]
        note = "" if row["openvino_ran"] == ["bf16"] else f" (OpenVINO ran {' and '.join(row['openvino_ran'])})"
        lines.append(
            f"| {row['model']}{note} | {statistics.mean(ours):.1f} | {min(ours):.1f} "
            f"| {statistics.mean(theirs):.1f} | {min(theirs):.1f} |"
        )
    return "\n".join(lines)


# --------------------------------------------------------------------------------------------------- the run


def main():
    args = arguments()
    facts = machine(args.impasto)
    settings = f" {args.threads} threads"
    if args.rounds > 0:
        settings += f", {args.rounds} rounds of {args.frames} frames after {args.warmup} to warm up"
    print(f"{describe(facts)}{settings}.\n", flush=True)
    results = {"machine": facts, "threads": args.threads, "runs": [], "bf16_psnr": []}
    wrong = []
    with tempfile.TemporaryDirectory(prefix="impasto-peers-") as folder:
        folder = Path(folder)
        models = list(args.model)
        for width in args.widths:
            models.append(folder / f"random-{width}.safetensors")
            networks.write(networks.random(width), models[-1])
        for model in models if args.rounds > 0 else []:
            for width, height in args.sizes:
                from PIL import Image

                say(f"{model.stem}, {width}×{height}")
                picture = folder / f"{width}x{height}.png"
                Image.fromarray(base_picture(args.photo, width, height)).save(picture)
                rows = race(args, Job.prepare(model, picture, args.threads, folder))
                wrong += [f"{row.engine} {row.precision}" for row in rows if not row.agrees()]
                print(f"### {model.stem}, {width}×{height}\n\n{table(rows)}\n", flush=True)
                run = {"model": model.stem, "width": width, "height": height, "rows": [asdict(row) for row in rows]}
                results["runs"].append(run)
        data = os.environ.get("IMPASTO_TEST_DATA")
        if data and not args.no_psnr:
            results["bf16_psnr"] = compare_bf16(args, Path(data), folder)
            print(f"### bf16 against the same engine's f32, eval photos\n\n{bf16_table(results['bf16_psnr'])}\n")
        elif not args.no_psnr:
            say("bf16 on the photos: left out; hint: IMPASTO_TEST_DATA names their folder")
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1) + "\n")
    if wrong:
        sys.exit(f"wrong pictures: {', '.join(wrong)}")


if __name__ == "__main__":
    try:
        main()
    except (EngineError, OSError) as error:
        sys.exit(f"peers: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
