"""Writes training.safetensors and training.json: twenty Adam steps of a small transform network in PyTorch.

    python tests/golden/make_training.py

johnson(8) from `StyleModel::initial(architecture, seed)`, a seeded random VGG16 (weights and losses as in the head
of loss_reference.py), seeded batches. One step: painted = network(batch), loss = PerceptualLoss(painted, batch),
gradients, Adam; the terms of step n are those before its update. f32 on one thread; run again on the same machine,
it writes the same bytes. The file formats are described in README.md.
"""

import json
from pathlib import Path

import torch
from safetensors.numpy import save

from impasto_reference import initial_model, johnson, load, picture, uniform
from loss_reference import LossNetwork, PerceptualLoss, random_weights, relative, to_tensor

HERE = Path(__file__).resolve().parent
STEPS, BATCH, SIZE = 20, 2, 32
FIRST = 32
SETTINGS = {
    # At the default scale of 1 an untrained network paints +-0.5 of 255: what the loss network then sees is a flat
    # picture's rounding, and f32 and f64 part after a few steps.
    "architecture": johnson(8, scale=40.0, offset=127.5),
    "seed": 7,
    "loss_network": {"network": "vgg16", "seed": 3, "input": "imagenet_normalized", "pooling": "max"},
    "loss": {
        "content_layers": {"relu2_2": 1.0},
        "style_layers": {"relu1_2": 1.0, "relu2_2": 1.0, "relu3_3": 1.0},
        "style_kind": "gram",
        "content_weight": 1.0,
        "style_weight": 300.0,
        "tv_weight": 10.0,
    },
    # A tenth of the usual rate: at 1e-3 every early step turns the loss by 10 %, so that rounding alone grows to 4e-3
    # of a term within 5 steps and 4e-2 within 20, and nothing could be told from it.
    "adam": {"learning_rate": 1e-4, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "weight_decay": 0.0},
    "steps": STEPS,
}


def train(batches, style, dtype=torch.float32, shake=None):
    """Gradients at step 0 by parameter, and the loss terms of every step.

    `shake`: a seed; every weight is first changed by up to 1e-7 of itself.
    """
    state = initial_model(SETTINGS["architecture"], SETTINGS["seed"])
    if shake is not None:
        for name, values in state.items():
            noise = torch.from_numpy(uniform(shake, name, values.numel())).reshape(values.shape)
            state[name] = values * (1 + 1e-7 * noise)
    network = load(SETTINGS["architecture"], state).to(dtype)
    chosen = SETTINGS["loss_network"]
    weights = random_weights(chosen["network"], chosen["seed"], dtype)
    loss_network = LossNetwork(chosen["network"], weights, chosen["input"], chosen["pooling"])
    loss = PerceptualLoss(loss_network, SETTINGS["loss"], to_tensor(style, dtype))
    adam = SETTINGS["adam"]
    optimizer = torch.optim.Adam(
        network.parameters(),
        lr=adam["learning_rate"],
        betas=(adam["beta_1"], adam["beta_2"]),
        eps=adam["epsilon"],
        weight_decay=adam["weight_decay"],
    )
    gradients, steps = None, []
    for batch in batches:
        content = to_tensor(batch, dtype)
        terms = loss.terms(network(content), content)
        optimizer.zero_grad()
        terms["total"].backward()
        if gradients is None:
            gradients = {name: p.grad.clone() for name, p in network.named_parameters()}
        optimizer.step()
        steps.append({name: value.item() for name, value in terms.items()})
    return gradients, steps


def cancels(name):
    """Does a norm take this parameter away again? Its gradient is then 0, and in f32 nothing but rounding.

    So with every bias before a norm. And with the last bias of a residual block: it shifts a whole plane, with
    reflection the next convolutions pass the shift on as a shift, and the norms after them remove it.
    """
    before_norm = name.endswith("conv2d.bias") and name != "deconv3.conv2d.bias"
    return before_norm or (name.startswith("res") and name.endswith("in2.bias"))


def main():
    torch.set_num_threads(1)
    seed = SETTINGS["seed"]
    batches = picture(seed, "batches", STEPS, BATCH, SIZE, SIZE, 3)
    style = picture(seed, "style", 1, SIZE, SIZE, 3) // 2
    style[..., 1] = 20  # dark and without green, so that there is something to learn
    gradients, steps = train(batches, style)
    gradients64, steps64 = train(batches, style, torch.float64)
    shaken = [train(batches, style, shake=n)[1] for n in (1, 2, 3)]

    tensors = {"batches": batches, "style": style}
    parameters = {}
    for name, gradient in gradients.items():
        tensors[f"gradient.{name}"] = gradient.flatten()[:FIRST].numpy().copy()
        parameters[name] = {
            "shape": list(gradient.shape),
            "gradient_norm": gradient.double().norm().item(),
            "cancels": cancels(name),
            "f64_difference": None if cancels(name) else relative(gradient, gradients64[name]),
        }
    for name, gradient in gradients64.items():
        assert cancels(name) == (gradient.norm().item() < 1e-12), name
    # How far each term goes astray by rounding alone: the largest of the three shaken runs and of f64.
    runs = [*shaken, steps64]
    spread = [
        {name: max(relative(run[step][name], value) for run in runs) for name, value in terms.items()}
        for step, terms in enumerate(steps)
    ]
    described = SETTINGS | {"parameters": parameters, "terms": steps, "spread": spread}
    (HERE / "training.safetensors").write_bytes(save(tensors))
    (HERE / "training.json").write_text(json.dumps(described, indent=1) + "\n")

    weights = SETTINGS["loss"]
    print(f"{'step':>4} {'total':>9} {'content':>9} {'style':>9} {'tv':>9}   spread: total, worst term   (weighted)")
    for step, (terms, strayed) in enumerate(zip(steps, spread)):
        style_term = weights["style_weight"] * sum(v for k, v in terms.items() if k.startswith("style."))
        print(
            f"{step:4} {terms['total']:9.4f} {terms['content.relu2_2']:9.4f} {style_term:9.4f}"
            f" {weights['tv_weight'] * terms['tv']:9.4f}   {strayed['total']:.1e} {max(strayed.values()):.1e}"
        )
    for name in steps[0]:
        first, all20 = (max(s[name] for s in part) for part in (spread[:5], spread))
        print(f"spread of {name:16} first 5 steps {first:.1e}   20 steps {all20:.1e}")
    worst = max(p["f64_difference"] for p in parameters.values() if not p["cancels"])
    print(f"{len(parameters)} parameters; gradients at step 0, f32-f64: at most {worst:.1e}")
    print(f"{(HERE / 'training.safetensors').stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
