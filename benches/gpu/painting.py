"""Frames a second, 8 bits from memory to memory, one after the other and overlapping."""

import files
import torch_side
from turns import alternate

#: The rows that matter most come first: a command may end before all are measured.
SIZES, QUICK_SIZES = [(1920, 1080), (640, 480), (3840, 2160)], [(128, 96), (96, 64)]
WIDTHS, QUICK_WIDTHS = [32, 16], [8]
PRECISIONS = ["f32", "half"]
#: impasto's network by Burn's general operations instead of its own kernels, to see what those gain.
GENERAL = "impasto, general operations"


def measure(session):
    options = session.options
    target = (QUICK_SIZES if session.quick else SIZES)[0]
    for width in options.width or (QUICK_WIDTHS if session.quick else WIDTHS):
        for size in options.size or (QUICK_SIZES if session.quick else SIZES):
            for precision in options.precision or PRECISIONS:
                key = {"size": f"{size[0]}×{size[1]}", "width": width, "precision": precision}
                label = f"painting {key['size']}, width {width}, {precision}"
                session.row("painting", label, key, lambda row: fill(session, row, label, size, size == target))


def fill(session, row, label, size, with_general):
    model = session.random_model(row["width"])
    _, rgb = session.frame(*size)
    theirs = Theirs(session.torch_device, model, row["precision"], rgb)
    # A process for each row: what a queue's streams hold of the card comes back when the process ends.
    with session.worker() as rust:
        ours = Ours(rust, session.options.device, model, row["precision"], size)
        contestants = {}
        for overlap in [False, True]:
            suffix = ", overlapping" if overlap else ""
            contestants["impasto" + suffix] = ours.contestant("fused", overlap)
            if with_general and not overlap:
                contestants[GENERAL] = ours.contestant("general", overlap)
            contestants["PyTorch eager" + suffix] = theirs.contestant(False, overlap)
            if session.options.compile:
                contestants["torch.compile" + suffix] = theirs.contestant(True, overlap)
        row |= alternate(session, label, contestants)


class Ours:
    """impasto's painters in one process. Where it ends, the next turn has a new one."""

    def __init__(self, rust, device, model, precision, size):
        self.rust, (self.width, self.height) = rust, size
        self.order = {"device": device, "model": model, "precision": precision}
        self.opened, self.warm = set(), set()

    def contestant(self, operations, overlap):
        def ready():
            self.open(operations)
            return lambda count: self.turn(operations, overlap, count)

        return ready

    def open(self, operations):
        if self.rust.revive():
            self.opened, self.warm = set(), set()
        if operations not in self.opened:
            self.rust("open", name=operations, operations=operations, **self.order)
            self.opened.add(operations)

    def turn(self, operations, overlap, count):
        self.open(operations)
        if (operations, overlap) not in self.warm:
            self.frames(operations, overlap, 2)
            self.warm.add((operations, overlap))
        return self.frames(operations, overlap, count)

    def frames(self, operations, overlap, count):
        order = {"name": operations, "width": self.width, "height": self.height, "frames": count, "overlap": overlap}
        return self.rust("frames", **order)["seconds"]


class Theirs:
    """PyTorch's painters, eager and compiled."""

    def __init__(self, device, model, precision, rgb):
        self.device, self.model, self.precision, self.rgb, self.painters = device, model, precision, rgb, {}

    def contestant(self, compiled, overlap):
        def ready():
            if compiled not in self.painters:
                model = files.read_model(self.model)
                self.painters[compiled] = torch_side.Painter(model, self.device, self.precision, compiled)
            return lambda count: self.painters[compiled].frames(self.rgb, count, overlap)

        return ready
