"""Writes transform_net.safetensors and transform_net.json: what PyTorch paints with seeded random networks.

    python tests/golden/make_transform_net.py

Weights are not stored: `StyleModel::random(architecture, seed)` makes the same ones. Outputs are PyTorch's in
f32 on one thread, neither rounded nor clamped. Run again on the same machine, it writes the same bytes.
The file formats are described in README.md.
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save

from impasto_reference import architecture, johnson, load, minimum_size, picture, random_model, run, uniform

HERE = Path(__file__).resolve().parent
SMALL = [(24, 32), (33, 27), (5, 7), (3, 64), (4, 4)]
LARGE = [(64, 48)]
# A single pixel, edge-padded and reflected, is a flat picture: every variance is rounding noise, which each norm
# multiplies by 1/sqrt(epsilon), and after a few of them f32 and f64 disagree by tens of grey levels. Zero padding
# is not flat, and a large epsilon does not multiply: those networks have this size, the others do not.
PIXEL = [(1, 1)]
SPREAD = {"scale": 150.0, "offset": 127.5}  # brings the last convolution's +-0.8 to 0..255
SQUASHED = {"activation": "tanh", "output_norm": True, "offset": 127.5}

# name: (architecture, seed of the weights, sizes as width, height)
CASES = {
    "johnson": (johnson(8, **SPREAD), 1, SMALL + LARGE),
    "johnson-plain-output": (johnson(8), 2, [(33, 27)]),
    "shallow-tanh": (architecture("c9s1-8,d16,R16,R16,u8,c9s1-3", scale=100.0, **SQUASHED), 3, SMALL),
    "tensorflow": (
        architecture(
            "c9s1-8,d16,d32,R32,R32,u16,u8,c9s1-3",
            padding="zero-same",
            upsampling="transposed",
            norm_epsilon=1e-3,
            scale=150.0,
            **SQUASHED,
        ),
        4,
        SMALL + PIXEL + LARGE,
    ),
    "reflect-transposed": (
        architecture("c9s1-8,d16,d32,R32,u16,u8,c9s1-3", upsampling="transposed", **SPREAD),
        5,
        SMALL,
    ),
    "zero-nearest": (architecture("c9s1-8,d16,d32,R32,u16,u8,c9s1-3", padding="zero-same", **SPREAD), 6, SMALL + PIXEL),
    "input-rgb01": (architecture("c9s1-8,d16,R16,u8,c9s1-3", input="rgb01", **SPREAD), 7, SMALL[:3]),
    "input-imagenet": (architecture("c9s1-8,d16,R16,u8,c9s1-3", input="imagenet_normalized", **SPREAD), 8, SMALL[:3]),
    "kernels-reflect": (architecture("c7s2-8,c3s1-12,c5s2-12,R12,u10,c3s1-10,u8,c5s1-3", **SPREAD), 9, SMALL),
    "kernels-zero": (
        architecture("c7s2-8,c3s1-12,c5s2-12,R12,u10,c3s1-10,u8,c5s1-3", padding="zero-same", **SPREAD),
        10,
        SMALL + PIXEL,
    ),
    "kernels-pointwise": (
        architecture("c3s1-8,c1s2-8,c1s1-12,R12,u8,c1s1-3", padding="zero-same", upsampling="transposed", **SPREAD),
        11,
        SMALL + PIXEL,
    ),
    "kernel-15": (architecture("c15s1-8,c11s2-8,u8,c13s1-3", **SPREAD), 12, SMALL[:3]),
    "no-residual": (architecture("c9s1-8,d16,u8,c9s1-3", **SPREAD), 13, SMALL),
    "up-then-conv": (architecture("c3s1-8,d12,u8,c5s1-12,c3s1-3", **SPREAD), 14, SMALL[:3]),
    "conv-only": (architecture("c5s1-8,c3s1-8,c5s1-3", **SPREAD), 15, SMALL[:3]),
    "one-layer": (architecture("c3s1-3", input="imagenet_normalized", scale=80.0, offset=127.5), 16, SMALL[:3]),
    "residual-between": (architecture("c3s1-8,R8,d12,R12,u8,R8,d8,c3s1-10,u8,c5s1-3", **SPREAD), 17, SMALL[:3]),
    "three-halvings": (architecture("c9s1-8,d8,d12,d16,R16,u12,u8,u8,c9s1-3", **SPREAD), 18, SMALL),
    "four-halvings": (architecture("c3s1-6,d8,d8,d8,c3s2-8,R8,u8,u8,u8,u6,c3s1-3", **SPREAD), 19, SMALL[:3]),
    "large-epsilon": (architecture("c9s1-8,d16,R16,u8,c9s1-3", norm_epsilon=0.1, **SPREAD), 21, SMALL + PIXEL),
    "narrow-odd-channels": (architecture("c9s1-5,d7,d13,R13,u6,u3,c9s1-3", **SPREAD), 20, SMALL[:3] + LARGE),
}


def main():
    torch.set_num_threads(1)
    tensors, cases = {}, []
    print(f"{'case':28} {'size':>6} {'min':>3} {'range':>16} {'std':>5} {'f32-f64':>8}")
    for name, (arch, seed, sizes) in CASES.items():
        network = load(arch, random_model(arch, seed))
        pictures = []
        for width, height in sizes:
            key = f"{name}.{width}x{height}"
            rgb = picture(seed, f"{key}.input", height, width, 3)
            output = run(network, rgb)
            # What rounding alone does; a test's tolerance must lie well above it.
            difference = float(np.abs(run(network, rgb, torch.float64) - output).max())
            assert difference < 0.01, f"{key}: ill-conditioned, f32 and f64 differ by {difference}"
            tensors[f"{key}.input"], tensors[f"{key}.output"] = rgb, output
            pictures.append({"width": width, "height": height, "f64_difference": float(f"{difference:.2g}")})
            low, high = output.min(), output.max()
            print(
                f"{name:28} {width:3}x{height:<2} {minimum_size(arch):3}"
                f" {low:7.1f}..{high:7.1f} {output.std():5.1f} {difference:8.1e}"
            )
        parameters = {k: list(v.shape) for k, v in network.state_dict().items()}
        cases.append(
            {
                "name": name,
                "architecture": arch,
                "seed": seed,
                "minimum_size": minimum_size(arch),
                "tensors": parameters,
                "pictures": pictures,
            }
        )
    checks = []
    for seed, name in [(0, ""), (1, "conv1.conv2d.weight"), (2**64 - 1, "deconv3.conv2d.bias"), (7, "Größe")]:
        bits = uniform(seed, name, 1000).view(np.uint32)
        checks.append(
            {
                "seed": seed,
                "name": name,
                "count": 1000,
                "first_bits": bits[:8].tolist(),
                "sum_of_bits": int(bits.astype(np.uint64).sum()),
            }
        )
    (HERE / "transform_net.safetensors").write_bytes(save(tensors))
    text = json.dumps({"uniform": checks, "cases": cases}, indent=1, ensure_ascii=False)
    (HERE / "transform_net.json").write_text(text + "\n", encoding="utf-8")
    size = (HERE / "transform_net.safetensors").stat().st_size
    print(f"{len(cases)} architectures, {len(tensors) // 2} pictures, {size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
