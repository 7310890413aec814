"""Writes losses.safetensors and losses.json: features, Gram matrices, losses and image gradients from PyTorch.

    python tests/golden/make_losses.py

Definitions, layer names and the recipe of the seeded random weights: the head of loss_reference.py. The weights
are not stored. f32 on one thread; run again on the same machine, it writes the same bytes. The file formats are
described in README.md.
"""

import json
from pathlib import Path

import torch
from safetensors.numpy import save

from impasto_reference import picture
from loss_reference import LossNetwork, evaluate, print_case, random_weights

HERE = Path(__file__).resolve().parent
SIZES = [(2, 32, 32), (1, 33, 29)]  # batch, height, width
STYLE_SIZE = (1, 40, 36)

VGG16 = [f"relu{b}_{n}" for b, count in enumerate([2, 2, 3, 3, 3], 1) for n in range(1, count + 1)]
VGG19 = [f"relu{b}_{n}" for b, count in enumerate([2, 2, 4, 4, 4], 1) for n in range(1, count + 1)]
SQUEEZENET = ["relu1"] + [f"fire{n}" for n in range(2, 10)]


def settings(layers, content, style, gram, mean_std, content_weight=1.0, tv_weight=1.0):
    """Layer weights are unequal, so that a mix-up shows; style weights bring the terms to about one size."""
    common = {
        "content_layers": content,
        "style_layers": style,
        "content_weight": content_weight,
        "tv_weight": tv_weight,
    }
    return {
        "layers": layers,
        "gram": {"style_kind": "gram", "style_weight": gram} | common,
        "mean_std": {"style_kind": "mean_std", "style_weight": mean_std} | common,
    }


VGG_STYLE = {"relu1_2": 1.0, "relu2_2": 0.75, "relu3_3": 0.5, "relu4_3": 0.25}
# name: (network, seed of the weights, input, pooling, settings)
CASES = {
    "vgg16": (
        "vgg16",
        3,
        "imagenet_normalized",
        "max",
        settings(VGG16, {"relu2_2": 1.0, "relu3_3": 0.5}, VGG_STYLE, 1e3, 0.5),
    ),
    "vgg16-bgr-average": (
        "vgg16",
        4,
        "bgr_minus_mean",
        "average",
        settings(VGG16[:10], {"relu2_2": 1.0}, VGG_STYLE, 3e-4, 2e-4, 1e-3),
    ),
    "vgg19": (
        "vgg19",
        5,
        "imagenet_normalized",
        "max",
        settings(
            VGG19,
            {"relu4_2": 1.0},
            {"relu1_1": 1.0, "relu2_1": 0.8, "relu3_1": 0.6, "relu4_1": 0.4, "relu5_1": 0.2},
            300.0,
            0.05,
        ),
    ),
    "squeezenet": (
        "squeezenet",
        6,
        "imagenet_normalized",
        "max",
        settings(
            SQUEEZENET,
            {"fire5": 1.0},
            {"relu1": 1.0, "fire3": 0.75, "fire5": 0.5, "fire9": 0.25},
            1e3,
            0.2,
            tv_weight=10.0,
        ),
    ),
}


def main():
    torch.set_num_threads(1)
    tensors, cases = {}, []
    for name, (network, seed, convention, pooling, chosen) in CASES.items():
        loss_network = LossNetwork(network, random_weights(network, seed), convention, pooling)
        for batch, height, width in SIZES:
            key = f"{name}.{batch}x{width}x{height}"
            image = picture(seed, f"{key}.image", batch, height, width, 3)
            content = picture(seed, f"{key}.content", batch, height, width, 3)
            # Darker than the image and without green, so that their styles differ.
            style = picture(seed, f"{key}.style", *STYLE_SIZE, 3) // 2
            style[..., 1] = 20
            stored, described = evaluate(key, loss_network, chosen, image, content, style)
            tensors |= stored
            cases.append(
                {"name": key, "network": network, "seed": seed, "input": convention, "pooling": pooling} | described
            )
            print_case(key, described)
    (HERE / "losses.safetensors").write_bytes(save(tensors))
    (HERE / "losses.json").write_text(json.dumps({"cases": cases}, indent=1) + "\n")
    print(f"{len(cases)} cases, {(HERE / 'losses.safetensors').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
