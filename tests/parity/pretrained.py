"""What PyTorch paints with real pretrained networks, for the parity tests.

    python tests/parity/pretrained.py --data DATA --out OUT [--photo FILE] [--threads N] [--png]

Runs every network of DATA/styles-pretrained in f32 over an eval photo of 768x512, and over its top left
641x383. Writes OUT/NAME-768x512.safetensors and OUT/NAME-641x383.safetensors (NAME: the model file's stem):

    input    U8   [height, width, 3]   the photo, RGB
    output   F32  [height, width, 3]   RGB 0..255, neither rounded nor clamped, cropped to the input's size

and OUT/architectures.json: per NAME the model file (relative to DATA) and the architecture it has. `--png` adds
the painted pictures to look at. Pickles are read with `weights_only=True`: nothing in them is run.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "golden"))
from impasto_reference import architecture, johnson, load, run  # noqa: E402

SIZES = [(768, 512), (641, 383)]


def read_transformernet(path):
    """A state dict of the PyTorch example, with the running statistics of old versions dropped."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = {k: v for k, v in state.items() if not k.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    return johnson(state["conv1.conv2d.weight"].shape[0]), state


def read_lengstrom(path):
    """The TF-style layout: no biases before the norms (they would cancel), a norm after the last convolution."""
    names = {"conv1": "conv1", "conv2": "conv2", "conv3": "conv3"}
    names |= {"deconv1": "deconv1", "deconv2": "deconv2", "conv_out": "deconv3"}
    norms = {"conv1": "in1", "conv2": "in2", "conv3": "in3", "deconv1": "in4", "deconv2": "in5", "conv_out": "in6"}
    state = {}
    for key, tensor in load_file(path).items():
        prefix, part = key.rsplit(".", 1)
        is_norm = prefix.endswith(".in")
        layer = prefix.removesuffix(".in")
        if layer.startswith("res"):
            block, conv = layer.split(".")
            new = f"{block}.{conv.replace('conv', 'in')}" if is_norm else f"{block}.{conv}.conv2d"
        else:
            new = norms[layer] if is_norm else f"{names[layer]}.conv2d"
        state[f"{new}.{part}"] = tensor
        if not is_norm:
            outputs = tensor.shape[1 if layer in ("deconv1", "deconv2") else 0]
            state[f"{new}.bias"] = torch.zeros(outputs)
    width = state["conv1.conv2d.weight"].shape[0]
    arch = johnson(
        width,
        padding="zero-same",
        upsampling="transposed",
        norm_epsilon=1e-3,
        output_norm=True,
        activation="tanh",
        scale=150.0,
        offset=127.5,
    )
    return arch, state


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with styles-pretrained/ and photos/")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    parser.add_argument("--photo", default="photos/eval/kodak_08.png", help="photo below DATA, at least 768x512")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--png", action="store_true", help="write the painted pictures too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.out.mkdir(parents=True, exist_ok=True)

    photo = np.array(Image.open(args.data / args.photo).convert("RGB"))
    styles = args.data / "styles-pretrained"
    models = [(p, *read_transformernet(p)) for p in sorted(styles.glob("transformernet/*.model"))]
    models += [(p, *read_lengstrom(p)) for p in sorted(styles.glob("lengstrom/*.safetensors"))]
    if not models:
        sys.exit(f"no models in {styles}, expected transformernet/*.model and lengstrom/*.safetensors")

    index = {}
    print(f"{'picture':44} {'range':>16} {'mean RGB':>18} {'seconds':>7}")
    for path, arch, state in models:
        network = load(arch, state)
        norms = [k for k in state if k.endswith("weight") and "conv2d" not in k]
        index[path.stem] = {"file": str(path.relative_to(args.data)), "architecture": arch}
        for width, height in SIZES:
            rgb = np.ascontiguousarray(photo[:height, :width])
            if rgb.shape != (height, width, 3):
                sys.exit(f"{args.photo}: expected at least {width}x{height}, found {photo.shape[1]}x{photo.shape[0]}")
            start = time.monotonic()
            output = run(network, rgb)
            seconds = time.monotonic() - start
            name = f"{path.stem}-{width}x{height}"
            (args.out / f"{name}.safetensors").write_bytes(save({"input": rgb, "output": output}))
            if args.png:
                Image.fromarray(output.round().clip(0, 255).astype(np.uint8)).save(args.out / f"{name}.png")
            colour = " ".join(f"{c:5.1f}" for c in output.clip(0, 255).mean(axis=(0, 1)))
            print(f"{name:44} {output.min():7.1f}..{output.max():7.1f} {colour:>18} {seconds:7.2f}")
        parameters = sum(v.numel() for v in state.values())
        print(f"    {arch['layers']}")
        print(
            f"    {parameters:,} parameters, {len(norms)} affine norms (epsilon {arch['norm_epsilon']:g}"
            f"{', one after the last convolution' if arch['output_norm'] else ''}), {arch['padding']},"
            f" {arch['upsampling']}, {arch['output']['activation']} x {arch['output']['scale']:g}"
            f" + {arch['output']['offset']:g}"
        )
    (args.out / "architectures.json").write_text(json.dumps(index, indent=1) + "\n")
    print(f"{len(models)} models, {len(models) * len(SIZES)} pictures in {args.out}")


if __name__ == "__main__":
    main()
