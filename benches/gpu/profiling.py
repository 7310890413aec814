"""Where one frame's time goes on both sides. (Not `profile`: Python has a module of that name.)"""

import files
import torch_side
from painting import GENERAL, PRECISIONS, QUICK_SIZES, QUICK_WIDTHS, SIZES, WIDTHS
from session import reason, say


def measure(session):
    width, size = (QUICK_WIDTHS[0], QUICK_SIZES[0]) if session.quick else (WIDTHS[0], SIZES[0])
    for precision in session.options.precision or PRECISIONS:
        key = {"precision": precision, "width": width, "size": f"{size[0]}×{size[1]}"}
        session.row("profile", f"profile {precision}", key, lambda row: fill(session, row, size))


def fill(session, row, size):
    model = session.random_model(row["width"])
    _, rgb = session.frame(*size)
    order = {"device": session.options.device, "precision": row["precision"], "model": model}
    order |= {"width": size[0], "height": size[1], "rounds": 3 if session.quick else 10}

    def ours(operations):
        with session.worker() as rust:
            return rust("profile", operations=operations, **order)["operations"]

    def theirs():
        painter = torch_side.Painter(files.read_model(model), session.torch_device, row["precision"], False)
        return painter.profile(rgb)

    for name, look in {"impasto": lambda: ours("fused"), GENERAL: lambda: ours("general"), "PyTorch": theirs}.items():
        try:
            row[name] = look()
        except Exception as error:
            row["failed"][name] = reason(error)
            say(f"profile {row['precision']}: {name}: {row['failed'][name]}")
