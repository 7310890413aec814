"""PyTorch's side of the comparison: the same network, frames and training steps, run the way PyTorch runs them best.

Painting is `benches/peers/networks.py`'s module (channels last, in-place where that is allowed); training is
`tests/golden`'s network and losses with PyTorch's own instance norm, bf16 by autocast with f32 weights and losses, and
fused Adam. Nothing here knows of the Rust side.
"""

import contextlib
import time

import networks
import numpy as np
import torch
import torch.nn.functional as F
from impasto_reference import InstanceNorm, TransformNet, initial_model, johnson
from loss_reference import LossNetwork, PerceptualLoss, random_weights, to_tensor


class Clock:
    """Waits for the device before it reads the time."""

    def __init__(self, device):
        self.device = device

    def synchronize(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(self, work):
        self.synchronize()
        before = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - before


def half_type(device):
    """bf16 on the CPU, where f16 is emulated; f16 on a card, where both are as fast and f16 is what people take."""
    return torch.bfloat16 if device.type == "cpu" else torch.float16


class Painter:
    """The network on a device: frames as uint8 arrays [height, width, 3] in, the same out."""

    def __init__(self, model, device, precision, compiled):
        self.device = device
        dtype = torch.float32 if precision == "f32" else half_type(device)
        module = networks.torch_module(model, dtype).to(device)
        self.module = torch.compile(module) if compiled else module

    def paint(self, rgb):
        with torch.inference_mode():
            return self.module(torch.from_numpy(rgb).to(self.device)).cpu().numpy()

    def frames(self, rgb, count, overlap):
        """Seconds that `count` frames take, from memory to memory. With `overlap` the next is under way before the one
        before it is waited for; page-locked memory then, so that copies do not wait for the processor."""
        pinned = overlap and self.device.type == "cuda"
        frame = torch.from_numpy(rgb.copy())
        frame = frame.pin_memory() if pinned else frame
        back = [torch.empty_like(frame, pin_memory=pinned) for _ in range(2)]
        done = [torch.cuda.Event() for _ in range(2)] if pinned else None

        def work():
            with torch.inference_mode():
                for at in range(count):
                    painted = self.module(frame.to(self.device, non_blocking=pinned))
                    if not pinned:
                        back[0].copy_(painted)
                        continue
                    slot = at % 2
                    if at >= 2:
                        done[slot].synchronize()
                    back[slot].copy_(painted, non_blocking=True)
                    done[slot].record()

        return Clock(self.device).seconds(work)

    def profile(self, rgb):
        """(operation, milliseconds) of one frame, the longest first, by PyTorch's own profiler."""
        from torch.profiler import ProfilerActivity, profile

        cuda = self.device.type == "cuda"
        self.paint(rgb)
        with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as profiler:
            self.paint(rgb)
        key = "self_device_time_total" if cuda else "self_cpu_time_total"
        found = [(event.key, getattr(event, key) / 1e3) for event in profiler.key_averages()]
        return sorted((item for item in found if item[1] > 0), key=lambda item: -item[1])


def native_norm(self, x):
    return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.epsilon)


class HalfFeatures(LossNetwork):
    """Convolutions in bf16, features handed out in f32: the losses are f32 as on the Rust side."""

    def __init__(self, *arguments, cast):
        super().__init__(*arguments)
        self.cast = cast

    def features(self, rgb255, names):
        with self.cast():
            found = super().features(rgb255, names)
        return {name: value.float() for name, value in found.items()}


class Training:
    """Steps on one batch of photos, as `impasto_burn::measure` takes them."""

    def __init__(self, settings, photos, style, weights, device, precision, compiled):
        architecture = johnson(settings["width"])
        network = TransformNet(architecture)
        network.load_state_dict(initial_model(architecture, seed=1))
        for module in network.modules():
            if isinstance(module, InstanceNorm):
                module.forward = native_norm.__get__(module)
        self.network = network.to(device, memory_format=torch.channels_last)
        half = precision == "half"

        def cast():
            return torch.autocast(device.type, torch.bfloat16) if half else contextlib.nullcontext()

        kind = settings["loss_network"].removeprefix("random-")
        dtype = torch.bfloat16 if half else torch.float32
        # Cast once: autocast would cast constants in every step.
        kernels = {
            name: value.to(device, dtype, memory_format=torch.channels_last) if value.dim() == 4 else value.to(device, dtype)
            for name, value in (weights or random_weights(kind, 1)).items()
        }
        chosen = {
            "content_layers": dict.fromkeys(settings["content_layers"], 1.0),
            "style_layers": dict.fromkeys(settings["style_layers"], 1.0),
            "style_kind": "gram",
            **{key: settings[key] for key in ["content_weight", "style_weight", "tv_weight"]},
        }

        def on_device(pictures):
            return to_tensor(pictures).to(device, memory_format=torch.channels_last)

        loss = PerceptualLoss(HalfFeatures(kind, kernels, cast=cast), chosen, on_device(style[None]))
        self.optimizer = torch.optim.Adam(
            self.network.parameters(), lr=settings["learning_rate"], eps=1e-8, fused=device.type == "cuda" or None
        )
        self.device, self.photos, self.on_device = device, photos, on_device

        def total(content):
            with cast():
                painted = self.network(content)
            return loss.terms(painted.float(), content)["total"]

        self.total = torch.compile(total) if compiled else total

    def steps(self, count):
        """Seconds of `count` steps, and the loss before the last of them."""
        last = []

        def work():
            for _ in range(count):
                total = self.total(self.on_device(self.photos))
                self.optimizer.zero_grad(set_to_none=True)
                total.backward()
                self.optimizer.step()
                last[:] = [total.detach()]

        seconds = Clock(self.device).seconds(work)
        return seconds, float(last[0])


def random_frame(width, height, seed=7):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
