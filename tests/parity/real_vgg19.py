"""Features, losses and image gradients of the real VGG19 in PyTorch, for the parity tests.

    python tests/parity/real_vgg19.py --data DATA --out FILE.safetensors [--threads N]

Loss network: DATA/loss-networks/vgg19_to_conv4_2_f32.safetensors (BGR minus mean, max pooling). The image is a
128x96 crop of one eval photo, the content picture one of another, the style a 128x96 crop of a painting. Definitions:
../golden/loss_reference.py. Writes FILE.safetensors and, beside it, FILE.json, in the format of
../golden/losses.safetensors and losses.json (one case, `vgg19-real`).
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.numpy import save
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "golden"))
from loss_reference import LossNetwork, evaluate, print_case  # noqa: E402

WIDTH, HEIGHT = 128, 96
WEIGHTS = "loss-networks/vgg19_to_conv4_2_f32.safetensors"
# File, left and top of the crop. The crop of the image is one where no ReLU and no pooling maximum is so close that
# rounding decides it: a single one that tips moves the gradient by 1e-4.
PICTURES = {
    "image": ("photos/eval/kodak_08.png", 120, 200),
    "content": ("photos/eval/kodak_03.png", 200, 150),
    "style": ("paintings/starry_night.jpg", 250, 100),
}
LAYERS = [f"relu{b}_{n}" for b, count in enumerate([2, 2, 4, 2], 1) for n in range(1, count + 1)]
COMMON = {
    "content_layers": {"relu4_2": 1.0},
    "style_layers": {"relu1_1": 1.0, "relu2_1": 0.8, "relu3_1": 0.6, "relu4_1": 0.4},
    "content_weight": 5e-6,
    "tv_weight": 100.0,
}
SETTINGS = {
    "layers": LAYERS,
    "gram": {"style_kind": "gram", "style_weight": 2e-6} | COMMON,
    "mean_std": {"style_kind": "mean_std", "style_weight": 1e-5} | COMMON,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with loss-networks/, photos/, paintings/")
    parser.add_argument("--out", type=Path, required=True, help="FILE.safetensors; FILE.json is written beside it")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)

    def crop(name):
        file, left, top = PICTURES[name]
        picture = np.array(Image.open(args.data / file).convert("RGB"))
        return np.ascontiguousarray(picture[None, top : top + HEIGHT, left : left + WIDTH])

    network = LossNetwork("vgg19", load_file(args.data / WEIGHTS), "bgr_minus_mean", "max")
    key = "vgg19-real"
    tensors, described = evaluate(key, network, SETTINGS, crop("image"), crop("content"), crop("style"))
    case = {"name": key, "network": "vgg19", "weights": WEIGHTS, "input": "bgr_minus_mean", "pooling": "max"}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_bytes(save(tensors))
    args.out.with_suffix(".json").write_text(json.dumps({"cases": [case | described]}, indent=1) + "\n")
    print_case(key, described)
    for kind, found in described["losses"].items():
        print(kind, {name: float(f"{value:.4g}") for name, value in found["terms"].items()})


if __name__ == "__main__":
    main()
