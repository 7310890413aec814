"""Writes gatys.safetensors and gatys.json: the losses of pictures optimized by PyTorch's Adam and L-BFGS.

    python tests/golden/make_gatys.py
    python tests/golden/make_gatys.py CONTENT STYLE WEIGHTS.safetensors [SIZE]    compare and time with real pictures

Losses: loss_reference.py, balanced on the content picture as in training:

    w_c sum_l a_l content_l / mean(F_l^2)  +  w_s sum_l b_l style_l / style_l(content)  +  w_tv tv / tv(content)

with layer weights a, b brought to a sum of 1. From the content picture; what is minimized is
`total * n / total of the start`, n the number of values. Adam takes RGB 0..255, L-BFGS RGB 0..255 divided by n. A step is one evaluation
of loss and gradient; step 1 is the start. The weights of the golden case are seeded random ones and not stored.
f32 on one thread.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file, save

from loss_reference import LossNetwork, content_loss, gram_matrix, random_weights, to_tensor, total_variation

HERE = Path(__file__).resolve().parent
STEPS = 100
SIDE = 64
SETTINGS = {
    "content_layers": {"relu3_2": 1.0},
    "style_layers": {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0},
    "content_weight": 1.0,
    "style_weight": 10.0,
    "tv_weight": 0.1,
}
REAL = {
    "content_layers": {"relu4_2": 1.0},
    "style_layers": {"relu1_1": 1.0, "relu2_1": 1.0, "relu3_1": 1.0, "relu4_1": 1.0},
    "content_weight": 1.0,
    "style_weight": 10.0,
    "tv_weight": 0.02,
}
LEARNING_RATE = 5.0


class Stop(Exception):
    pass


class Objective:
    def __init__(self, network, settings, content, style):
        self.network, self.settings, self.names = network, settings, []
        with torch.no_grad():
            found = network.features(style, settings["style_layers"])
            self.grams = {name: gram_matrix(found[name]) for name in settings["style_layers"]}
            self.names = [*settings["content_layers"], *settings["style_layers"]]
            found = network.features(content, self.names)
            self.content = {name: found[name] for name in settings["content_layers"]}
            share = {kind: sum(settings[f"{kind}_layers"].values()) for kind in ("content", "style")}
            self.factors = {
                **{("content", n): w / share["content"] / found[n].square().mean().item()
                   for n, w in settings["content_layers"].items()},
                **{("style", n): w / share["style"] / (gram_matrix(found[n]) - self.grams[n]).square().mean().item()
                   for n, w in settings["style_layers"].items()},
            }
            self.tv = total_variation(content).item()

    def __call__(self, x):
        """The weighted shares and their sum."""
        s = self.settings
        found = self.network.features(x, self.names)
        content = s["content_weight"] * sum(
            self.factors["content", n] * content_loss(found[n], self.content[n]) for n in s["content_layers"])
        style = s["style_weight"] * sum(
            self.factors["style", n] * (gram_matrix(found[n]) - self.grams[n]).square().mean()
            for n in s["style_layers"])
        tv = s["tv_weight"] / self.tv * total_variation(x)
        return {"total": content + style + tv, "content": content, "style": style, "tv": tv}


def iterate(objective, start, method, steps, unit=None):
    """The shares at each evaluation, and seconds per evaluation."""
    n = start.numel()
    unit = unit or (1 / n if method == "lbfgs" else 1.0)
    x = (start * unit).clone().requires_grad_()
    if method == "lbfgs":
        optimizer = torch.optim.LBFGS([x], lr=1, max_iter=10**6, max_eval=10**6, tolerance_grad=0, tolerance_change=0,
                                      history_size=100, line_search_fn="strong_wolfe")
    else:
        optimizer = torch.optim.Adam([x], lr=LEARNING_RATE)
    rows, times, before = [], [], time.perf_counter()

    def closure():
        nonlocal before
        optimizer.zero_grad()
        shares = objective(x / unit)
        rows.append({k: v.item() for k, v in shares.items()})
        (shares["total"] * (n / rows[0]["total"])).backward()
        now = time.perf_counter()
        times.append(now - before)
        before = now
        if len(rows) == steps:
            raise Stop
        return shares["total"].detach() * (n / rows[0]["total"])

    try:
        while True:
            optimizer.step(closure)
    except Stop:
        return rows, float(np.median(times[1:]))


def pictures():
    """Discs before a slope, and wavy stripes: [1, 64, 64, 3] and [1, 64, 64, 3], uint8."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    content = np.stack([60 + 120 * x, 90 + 80 * y, 200 - 100 * x * y], -1)
    for cx, cy, radius, colour in [(0.3, 0.35, 0.2, (220, 60, 40)), (0.7, 0.6, 0.25, (40, 160, 70))]:
        content[(x - cx) ** 2 + (y - cy) ** 2 < radius**2] = colour
    wave = np.sin(40 * (x + 0.1 * np.sin(9 * y)))
    style = np.stack([128 + 100 * wave, 128 + 60 * np.sin(17 * y) * wave, 90 - 70 * wave], -1)
    return [np.clip(p, 0, 255).astype(np.uint8)[None] for p in (content, style)]


def golden():
    torch.set_num_threads(1)
    content, style = pictures()
    network = LossNetwork("vgg16", random_weights("vgg16", 7))
    objective = Objective(network, SETTINGS, to_tensor(content), to_tensor(style))
    runs = {m: iterate(objective, to_tensor(content), m, STEPS + 1)[0] for m in ("adam", "lbfgs")}
    (HERE / "gatys.safetensors").write_bytes(save({"content": content, "style": style}))
    found = {"network": "vgg16", "seed": 7, "learning_rate": LEARNING_RATE, "settings": SETTINGS, "runs": runs}
    (HERE / "gatys.json").write_text(json.dumps(found, indent=1) + "\n")
    report(runs)


def report(runs):
    for method, rows in runs.items():
        for step in (1, 2, 11, 50, 51, 100, 101):
            if step <= len(rows):
                row, best = rows[step - 1], min(r["total"] for r in rows[:step])
                print(f"{method:6} step {step:4} best {best:10.5f} " + " ".join(f"{k} {v:.5f}" for k, v in row.items()))


def real(content, style, weights, side=256):
    from PIL import Image

    def picture(path):
        return to_tensor(np.asarray(Image.open(path).convert("RGB").resize((side, side), Image.LANCZOS))[None])

    weights = {k: torch.from_numpy(v.astype(np.float32)) for k, v in load_file(weights).items()}
    network = LossNetwork("vgg19", weights, "bgr_minus_mean")
    objective = Objective(network, REAL, picture(content), picture(style))
    for method, unit in [("adam", None), ("lbfgs", None), ("lbfgs", 1.0)]:
        rows, seconds = iterate(objective, picture(content), method, STEPS + 1, unit)
        print(f"{method}, unit {unit or 'default'}: {seconds:.3f} s a step, {torch.get_num_threads()} threads")
        report({method: rows})


if __name__ == "__main__":
    if len(sys.argv) > 3:
        real(*sys.argv[1:4], *map(int, sys.argv[4:]))
    else:
        golden()
