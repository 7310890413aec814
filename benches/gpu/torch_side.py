"""PyTorch's side of the comparison: the same network and frames, run the way PyTorch runs them best.

Painting is `benches/peers/networks.py`'s module (channels last, in-place where that is allowed); training has a file of
its own, `torch_training.py`. Nothing here knows of the Rust side.
"""

import contextlib
import gc
import time

import networks
import numpy as np
import torch


def take_the_fastest():
    """PyTorch's own settings for speed, for everything that is measured here."""
    # Convolutions are chosen by trying, once for each shape: before that the choice is a guess.
    torch.backends.cudnn.benchmark = True
    # f32 products in TF32, as CubeCL's are where the card has it.
    torch.backends.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("high")


def settings():
    """What is set of these, as PyTorch says."""
    return {
        "cudnn_benchmark": torch.backends.cudnn.benchmark,
        "cudnn_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }


@contextlib.contextmanager
def exact_f32():
    """PyTorch without TF32."""
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    torch.backends.cudnn.allow_tf32 = False
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])


def free_memory(device):
    """Gives back to the card what PyTorch's allocator holds and nobody uses."""
    gc.collect()  # compiled modules are in cycles
    if device.type == "cuda":
        torch.cuda.empty_cache()


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


def random_frame(width, height, seed=7):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
