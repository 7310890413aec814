"""Mean and largest differences of 255: impasto on the device against its CPU engine and against PyTorch."""

import files
import numpy as np
import torch
import torch_side
from worker import WorkerError

PRECISIONS = ["f32", "half"]


def measure(session):
    sizes = [(65, 47), (96, 64)] if session.quick else [(257, 195), (640, 480)]
    widths = [8] if session.quick else [32, 16]
    with session.worker() as rust:

        def wave():
            path = session.folder / "wave.safetensors"
            if not path.exists():
                rust("export", style="wave", to=path)
            return path

        models = {"wave": wave}
        models |= {f"random, width {width}": lambda width=width: session.random_model(width) for width in widths}
        for name, model in models.items():
            for size in sizes:
                key = {"model": name, "size": f"{size[0]}×{size[1]}"}
                label = f"correctness: {name} {key['size']}"
                session.row("correctness", label, key, lambda row: fill(session, rust, row, model, size))


def fill(session, rust, row, model, size):
    rust.revive()
    path = model()
    (width, height), (frame, rgb) = size, session.frame(*size)
    order = {"frame": frame, "width": width, "height": height, "to": session.folder / "painted.f32"}

    def painted(do, **more):
        rust(do, **order, **more)
        return np.fromfile(order["to"], np.float32).reshape(height, width, 3)

    engine = painted("engine", model=path)
    with torch_side.exact_f32():
        theirs = files.reference(files.read_model(path), rgb, torch.device("cpu"))
    row["engine_torch"] = difference(engine, theirs)
    for precision in PRECISIONS:
        rust.revive()
        try:
            rust("open", name="checked", device=session.options.device, precision=precision, model=path)
            ours = painted("paint", name="checked")
        except WorkerError as error:
            row["failed"][precision] = str(error)
            continue
        row[precision] = {"engine": difference(ours, engine), "torch": difference(ours, theirs)}


def difference(one, other):
    apart = np.abs(one.astype(np.float64) - other)
    return {"mean": float(apart.mean()), "largest": float(apart.max())}
