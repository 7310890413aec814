"""Times a step of the iterative method (one evaluation of loss and gradient, and the optimizer's part) beside
PyTorch's, and compares the losses step by step.

    benches/reference/run CONTENT PAINTING --weights VGG19.safetensors
    benches/reference/run CONTENT PAINTING --weights … --sizes 256 --steps 101 --rounds 1 --losses

Both start from the same content picture, with the same losses (relu4_2; relu1_1 … relu4_1; total variation) balanced
the same way, on pictures that were resized once, here. Interleaved: in each round, each has one turn of `--steps`
evaluations with L-BFGS (and with --losses also with Adam); a turn's figure is the median of its steps after the
first, the table's the median of the turns. Tables go to stdout as Markdown.

The safetensors file has BGR-minus-mean weights under VGG's names (conv1_1.weight …), as
tests/golden/README.md describes.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "golden"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from safetensors.numpy import load_file  # noqa: E402

from loss_reference import LossNetwork, to_tensor  # noqa: E402
from make_gatys import LEARNING_RATE, REAL, Objective, iterate  # noqa: E402

SHOWN = (1, 10, 50, 100)


def arguments():
    parser = argparse.ArgumentParser(prog="run", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("content", type=Path)
    add("painting", type=Path)
    add("--impasto", type=Path, required=True, help=argparse.SUPPRESS)
    add("--weights", type=Path, required=True, help="VGG19 as safetensors")
    add("--sizes", default="256,512", metavar="N,…", help="sides of the square picture [default: 256,512]")
    add("--steps", type=int, default=8, help="evaluations a turn [default: 8]")
    add("--rounds", type=int, default=3, help="turns of each [default: 3]")
    add("--threads", type=int, default=os.cpu_count(), help="PyTorch's threads [default: all]; impasto takes all")
    add("--losses", action="store_true", help="also compare the losses at steps 1, 10, 50 and 100, Adam's too")
    return parser.parse_args()


def impasto(args, folder, side, method):
    log, out = folder / "log.csv", folder / "out.png"
    layers = {kind: ",".join(f"{n}={w}" for n, w in REAL[f"{kind}_layers"].items()) for kind in ("content", "style")}
    command = [
        args.impasto, "gatys", folder / f"content-{side}.png", folder / f"painting-{side}.png", "-o", out,
        "--overwrite", "--size", 0, "--scales", 1, "--steps", args.steps, "--optimizer", method, "--log", log,
        "--loss-net", "vgg19", "--loss-weights", args.weights, "--learning-rate", LEARNING_RATE,
        "--content-layers", layers["content"], "--style-layers", layers["style"],
        "--content-weight", REAL["content_weight"], "--style-weight", REAL["style_weight"],
        "--tv-weight", REAL["tv_weight"],
    ]  # fmt: skip
    subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(log, newline="") as file:
        rows = [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]
    return rows, statistics.median(row["seconds"] for row in rows[1:])


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    weights = {k: torch.from_numpy(v.astype(np.float32)) for k, v in load_file(args.weights).items()}
    network = LossNetwork("vgg19", weights, "bgr_minus_mean")
    methods = ["lbfgs", "adam"] if args.losses else ["lbfgs"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        print(f"PyTorch {torch.__version__}, {args.threads} threads, load before: {os.getloadavg()[0]:.1f}\n")
        print("| picture | impasto, s a step | PyTorch, s a step | PyTorch / impasto |")
        print("| --- | ---: | ---: | ---: |", flush=True)
        losses = []
        for side in map(int, args.sizes.split(",")):
            pictures = []
            for name in ("content", "painting"):
                picture = Image.open(getattr(args, name)).convert("RGB").resize((side, side), Image.LANCZOS)
                picture.save(folder / f"{name}-{side}.png")
                pictures.append(to_tensor(np.asarray(picture)[None]))
            objective = Objective(network, REAL, *pictures)
            ours, theirs = [], []
            for _ in range(args.rounds):
                for method in methods:
                    rows, seconds = impasto(args, folder, side, method)
                    expected, peer_seconds = iterate(objective, pictures[0], method, args.steps)
                    if method == "lbfgs":
                        ours.append(seconds)
                        theirs.append(peer_seconds)
                    losses.append((side, method, rows, expected))
            our, their = statistics.median(ours), statistics.median(theirs)
            print(f"| {side}×{side} | {our:.3f} | {their:.3f} | {their / our:.2f} |", flush=True)
        if args.losses:
            report(losses)


def report(losses):
    """Adam: updates done, so that step 1 is the second evaluation. L-BFGS: the best of so many evaluations."""
    print("\n| optimizer, picture | at | loss | impasto | PyTorch | difference |")
    print("| --- | ---: | --- | ---: | ---: | ---: |")
    for side, method, ours, theirs in losses:
        for at in SHOWN:
            if method == "adam" and at < len(ours):
                for name in ("total", "content", "style", "tv"):
                    line(f"Adam, {side}", at, name, ours[at][name], theirs[at][name])
            elif method == "lbfgs" and at <= len(ours):
                best = [min(row["total"] for row in rows[:at]) for rows in (ours, theirs)]
                line(f"L-BFGS, {side}", at, "total", *best)


def line(name, at, loss, ours, theirs):
    difference = f"{100 * (ours / theirs - 1):+.2f} %" if theirs else "–"
    print(f"| {name} | {at} | {loss} | {ours:.5f} | {theirs:.5f} | {difference} |")


if __name__ == "__main__":
    main()
