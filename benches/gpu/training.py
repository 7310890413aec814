"""Training images a second, and memory on the card."""

import functools
import math

import numpy as np
import torch
import torch_side
import torch_training
from painting import GENERAL, PRECISIONS
from session import reason
from turns import alternate
from worker import WorkerError

#: The gpu preset of impasto-train, without balancing.
SETTINGS = {
    "width": 32,
    "side": 256,
    "batch": 8,
    "learning_rate": 1e-3,
    "loss_network": "random-vgg19",
    "content_layers": ["relu3_3"],
    "style_layers": ["relu1_2", "relu2_2", "relu3_3", "relu4_1"],
    "content_weight": 1.0,
    "style_weight": 300.0,
    "tv_weight": 10.0,
}
QUICK_SETTINGS = SETTINGS | {"width": 4, "side": 48, "batch": 2}


def measure(session):
    settings = QUICK_SETTINGS if session.quick else SETTINGS
    for precision in session.options.precision or PRECISIONS:
        key = {"precision": precision, **{key: settings[key] for key in ["width", "side", "batch", "loss_network"]}}
        label = f"training {precision}"
        session.row("training", label, key, lambda row: fill(session, row, label, settings))


def pictures(settings):
    """A batch of photos and a style picture: noise."""
    side = settings["side"]
    photos = np.stack([torch_side.random_frame(side, side, seed) for seed in range(settings["batch"])])
    return photos, torch_side.random_frame(side, side, seed=99)


@functools.cache
def apart():
    """PyTorch's steps against tests/golden; on the CPU, where a small step says as much."""
    return torch_training.apart(QUICK_SETTINGS, *pictures(QUICK_SETTINGS))


def fill(session, row, label, settings):
    try:
        row["torch_apart"] = apart()
    except Exception as error:
        row["failed"]["PyTorch's step beside tests/golden's"] = reason(error)
    photos, style = pictures(settings)
    contestants = {
        "impasto": Ours(session, "fused", row["precision"], settings, photos, style),
        GENERAL: Ours(session, "general", row["precision"], settings, photos, style),
        "PyTorch eager": Theirs(session, False, row["precision"], settings, photos, style),
    }
    if session.options.compile:
        contestants["torch.compile"] = Theirs(session, True, row["precision"], settings, photos, style)
    try:
        found = alternate(session, label, {name: one.ready for name, one in contestants.items()})
    finally:
        for one in contestants.values():
            one.close()
    row |= found | {"failed": row["failed"] | found["failed"]}
    row["images_per_second"] = {name: settings["batch"] / seconds for name, seconds in row["seconds"].items()}
    row["losses"] = {name: contestants[name].loss for name in row["seconds"]}
    row["memory"] = {name: contestants[name].memory for name in row["seconds"]}
    row["with_context"] = [name for name in row["seconds"] if contestants[name].with_context]


class Ours:
    """impasto in a process of its own: the memory that another training took is not this one's.

    Memory is by how much more of the card is in use after its orders than before them, PyTorch standing still. Its
    CUDA context is there before the first is weighed.
    """

    def __init__(self, session, operations, precision, settings, photos, style):
        self.session, self.worker, self.loss, self.memory, self.with_context = session, None, math.nan, None, False
        (session.folder / "photos.rgb").write_bytes(photos.tobytes())
        (session.folder / "style.rgb").write_bytes(style.tobytes())
        self.order = settings | {
            "device": session.options.device,
            "precision": precision,
            "operations": operations,
            "photos": session.folder / "photos.rgb",
            "style": session.folder / "style.rgb",
        }

    def ready(self):
        self.worker = self.session.worker()
        try:
            # The smallest order that opens the device: what a client and its context take is not a training's.
            self.worker("open", name="context", device=self.order["device"], precision="f32", width=4)
            self.worker("close", name="context")
        except WorkerError:
            self.with_context = True
            self.worker.revive()
        self.weighed("training", **self.order)
        return self.turn

    def turn(self, count):
        answer = self.weighed("steps", count=count)
        # JSON has no NaN: serde writes null.
        self.loss = math.nan if answer["loss"] is None else answer["loss"]
        return answer["seconds"]

    def weighed(self, do, **order):
        before = self.session.card_memory()
        answer = self.worker(do, **order)
        after = self.session.card_memory()
        if before is not None and after is not None:
            self.memory = (self.memory or 0) + max(0, after - before)
        return answer

    def close(self):
        if self.worker is not None:
            self.worker.close()


class Theirs:
    """PyTorch. Memory is weighed as impasto's is: by how much more of the card is in use than before it was set up.

    That is what its allocator holds, and the code of kernels that nobody had used before. What trying out convolutions
    took is given back first: these are workspaces that no step needs.
    """

    def __init__(self, session, compiled, precision, settings, photos, style):
        self.session, self.compiled, self.loss, self.memory, self.with_context = session, compiled, math.nan, None, False
        self.order = settings, photos, style, session.torch_device, precision, compiled
        self.training, self.turns = None, 0

    def ready(self):
        torch.zeros(1, device=self.session.torch_device)  # the context
        self.session.free_memory()
        self.before = self.session.card_memory()
        self.training = torch_training.Training(*self.order)
        return self.turn

    def turn(self, count):
        self.turns += 1
        # The second is after the compiling and trying, and not yet one that is measured.
        weighs = self.turns == 2
        if weighs:
            self.session.free_memory()
        seconds, self.loss = self.training.steps(count)
        after = self.session.card_memory() if weighs else None
        if after is not None and self.before is not None:
            self.memory = max(0, after - self.before)
        return seconds

    def close(self):
        self.training = None
