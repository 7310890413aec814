"""Training steps in PyTorch, run the way PyTorch runs them best: what `impasto_burn::measure` does, in the same numbers.

The network and the losses are those of `tests/golden`, of which the plain form leaves speed lying: it makes constants
on the processor in every call, and the style picture's Gram matrices in every step. Here photos travel as bytes from
page-locked memory, what does not change is on the device from the start, everything is channels last, ReLUs and
residual sums are in place, norms are PyTorch's own, half precision is bf16 by autocast with f32 weights and losses, and
Adam is fused. `apart` says how far the two forms are apart.
"""

import contextlib

import networks
import numpy as np
import torch
import torch.nn.functional as F
from impasto_reference import MEAN, STD, Residual, TransformNet, initial_model, johnson, load, minimum_size
from loss_reference import LossNetwork, PerceptualLoss, content_loss, random_weights, to_tensor, total_variation
from torch_side import Clock

ADAM_EPSILON = 1e-8


def normalize(module, x):
    return F.instance_norm(x, weight=module.weight, bias=module.bias, eps=module.epsilon)


class Network(TransformNet):
    """The default network on pictures that it fits: no scaling by 1, no padding by 0."""

    def __init__(self, width, side):
        super().__init__(johnson(width))
        if self.arch["input"] != "rgb255" or self.arch["output"] != {"activation": "linear", "scale": 1.0, "offset": 0.0}:
            raise ValueError("the default network scales now: its forward pass here has to as well")
        if side % 4 or side < minimum_size(self.arch):
            raise ValueError(f"photos of {side}², expected a multiple of 4 of at least {minimum_size(self.arch)}")

    def forward(self, x):
        for name, norm, relu in self.steps:
            module = getattr(self, name)
            if isinstance(module, Residual):
                branch = normalize(module.in1, module.conv1(x)).relu_()
                x = normalize(module.in2, module.conv2(branch)).add_(x)
                continue
            x = module(x)
            if norm is not None:
                x = normalize(getattr(self, norm), x)
            if relu:
                x = x.relu_()
        return x


class Features(LossNetwork):
    """Features in the number type of the kernels, by constants that are on the device."""

    def __init__(self, kind, kernels, device):
        super().__init__(kind, kernels)
        # (rgb255 / 255 - mean) / std as one product and one sum.
        self.factor, self.summand = (
            torch.from_numpy(values).to(device)[None, :, None, None] for values in (1 / (np.float32(255) * STD), -MEAN / STD)
        )

    def preprocess(self, rgb255):
        return rgb255 * self.factor + self.summand

    def conv(self, x, name, **options):
        return F.conv2d(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], **options).relu_()


def gram_matrix(features):
    """The same as `tests/golden`'s; the pixels are rows, so that channels last is read as it lies."""
    batch, channels, height, width = features.shape
    flat = features.permute(0, 2, 3, 1).reshape(batch, height * width, channels)
    return flat.transpose(1, 2) @ flat / (channels * height * width)


class Loss:
    """The sum of `tests/golden`'s terms; losses are f32, whatever the features are computed in."""

    def __init__(self, settings, features, style, cast):
        self.settings, self.network, self.cast = settings, features, cast
        with torch.no_grad():
            found = self.features(style, settings["style_layers"])
            self.style = {layer: gram_matrix(value) for layer, value in found.items()}

    def features(self, rgb255, layers):
        with self.cast():
            found = self.network.features(rgb255, layers)
        return {layer: value.float() for layer, value in found.items()}

    def __call__(self, painted, content):
        s = self.settings
        found = self.features(painted, {*s["content_layers"], *s["style_layers"]})
        with torch.no_grad():
            target = self.features(content, s["content_layers"])
        total = s["tv_weight"] * total_variation(painted)
        for layer in s["content_layers"]:
            total = total + s["content_weight"] * content_loss(found[layer], target[layer])
        for layer in s["style_layers"]:
            apart = gram_matrix(found[layer]) - self.style[layer]
            total = total + s["style_weight"] * apart.square().mean()
        return total


class Training:
    """Steps on one batch of photos: uint8 [batch, side, side, 3]; the style picture is uint8 [side, side, 3]."""

    def __init__(self, settings, photos, style, device, precision, compiled):
        network = Network(settings["width"], settings["side"])
        network.load_state_dict(initial_model(network.arch, seed=1))
        self.network = network.to(device, memory_format=torch.channels_last)
        half = precision == "half"

        def cast():
            return torch.autocast(device.type, torch.bfloat16) if half else contextlib.nullcontext()

        kind = loss_network(settings)
        dtype = torch.bfloat16 if half else torch.float32
        # Cast once: autocast would cast constants in every step.
        kernels = {
            name: value.to(device, dtype, memory_format=torch.channels_last) if value.dim() == 4 else value.to(device, dtype)
            for name, value in random_weights(kind, 1).items()
        }
        loss = Loss(settings, Features(kind, kernels, device), values(torch.from_numpy(style[None]).to(device)), cast)
        self.optimizer = torch.optim.Adam(
            network.parameters(), lr=settings["learning_rate"], eps=ADAM_EPSILON, fused=device.type == "cuda" or None
        )
        photos = torch.from_numpy(photos)
        self.device, self.photos = device, photos.pin_memory() if device.type == "cuda" else photos

        def total(photos):
            content = values(photos)
            with cast():
                painted = network(content)
            return loss(painted.float(), content)

        self.total = torch.compile(total) if compiled else total

    def steps(self, count):
        """Seconds of `count` steps, and the loss before the last of them."""
        last = []

        def work():
            for _ in range(count):
                total = self.total(self.photos.to(self.device, non_blocking=True))
                self.optimizer.zero_grad(set_to_none=True)
                total.backward()
                self.optimizer.step()
                last[:] = [total.detach()]

        seconds = Clock(self.device).seconds(work)
        return seconds, float(last[0])


def values(photos):
    """Bytes [batch, height, width, 3] as f32 [batch, 3, height, width], channels last."""
    return photos.permute(0, 3, 1, 2).float()


def loss_network(settings):
    return settings["loss_network"].removeprefix("random-")


def apart(settings, photos, style):
    """How far the steps here are from `tests/golden`'s plain network and losses: relative differences of the loss and
    of the gradients of all parameters, of the same step on the CPU in f32."""
    # Weights that paint the whole range: the first pictures of a training are flat, and their gradients rounding.
    model = networks.random(settings["width"])
    state = {key: torch.from_numpy(value) for key, value in model.tensors.items()}
    here = Training(settings, photos, style, torch.device("cpu"), "f32", False)
    here.network.load_state_dict(state)
    loss = here.total(here.photos)
    loss.backward()

    network = load(model.architecture, state)
    chosen = {key: settings[key] for key in ["content_weight", "style_weight", "tv_weight"]} | {"style_kind": "gram"}
    chosen |= {key: dict.fromkeys(settings[key], 1.0) for key in ["content_layers", "style_layers"]}
    kind = loss_network(settings)
    plain = PerceptualLoss(LossNetwork(kind, random_weights(kind, 1)), chosen, to_tensor(style[None]))
    content = to_tensor(photos)
    reference = plain.terms(network(content), content)["total"]
    reference.backward()

    ours, theirs = (
        torch.cat([parameter.grad.flatten().double() for parameter in module.parameters()])
        for module in (here.network, network)
    )
    return {
        "loss": abs(loss.item() / reference.item() - 1),
        "gradients": ((ours - theirs).norm() / theirs.norm()).item(),
    }
