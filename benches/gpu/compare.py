"""impasto and PyTorch on the same card, in the same run: correctness, painting, training, a profile; one report.

Each part is a command of its own (`--part`), so that none takes longer than ten minutes; what was measured is kept in
`OUT/results.json` as it comes, and the report is written from what is there. `run` starts this; README.md says how.
"""

import argparse
import datetime
import json
import platform
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "peers"), str(HERE.parents[1] / "tests" / "golden")]

import numpy as np  # noqa: E402
import torch  # noqa: E402

import files  # noqa: E402
import report  # noqa: E402
import torch_side  # noqa: E402
import torch_training  # noqa: E402
from worker import Worker, WorkerError  # noqa: E402

PARTS = ["correctness", "painting", "training", "profile"]
SIZES, QUICK_SIZES = [(640, 480), (1920, 1080), (3840, 2160)], [(96, 64), (128, 96)]
WIDTHS, QUICK_WIDTHS = [16, 32], [8]
#: The gpu preset of impasto-train, without balancing.
TRAINING = {
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
QUICK_TRAINING = TRAINING | {"width": 4, "side": 48, "batch": 2}
PRECISIONS = ["f32", "half"]
#: impasto's network by Burn's general operations instead of its own kernels, to see what those gain.
GENERAL = "impasto, general operations"


def say(text):
    print(f"gpu: {text}", file=sys.stderr, flush=True)


class Run:
    """What all parts need: the two sides, a folder for files that pass between them, the results."""

    def __init__(self, options):
        self.options, self.quick = options, options.quick
        torch_side.take_the_fastest()
        self.kind, _, index = options.device.partition(":")
        # PyTorch has no wgpu: it is on CUDA where there is a card, and on the CPU otherwise.
        card = torch.cuda.is_available() and self.kind != "cpu"
        self.torch_device = torch.device(f"cuda:{index or 0}" if card and self.kind == "cuda" else "cuda" if card else "cpu")
        self.folder = Path(tempfile.mkdtemp(prefix="impasto-gpu-"))
        self.rust = Worker(options.worker, options.libraries)
        options.out.mkdir(parents=True, exist_ok=True)
        self.store = options.out / "results.json"
        kept = json.loads(self.store.read_text()) if self.store.exists() else {}
        facts = self.facts()
        if {key: kept.get("facts", {}).get(key) for key in ["device", "card", "quick"]} != {
            key: facts[key] for key in ["device", "card", "quick"]
        }:
            kept = {}  # another machine's, or another kind of run
        self.results = kept | {"facts": facts}

    def facts(self):
        found = self.rust("devices")["devices"]
        asked = f"{self.kind}:0" if self.options.device == self.kind else self.options.device
        names = {item["device"] if ":" in item["device"] else f"{item['device']}:0": item["name"] for item in found}
        if asked not in names:
            there = ", ".join(item["device"] for item in found)
            sys.exit(f"gpu: device {self.options.device} is not there (there: {there}); hint: --device cpu tries the scripts")
        on_card = self.torch_device.type == "cuda"
        return {
            "device": self.options.device,
            "card": names[asked],
            "quick": self.quick,
            "date": datetime.date.today().isoformat(),
            "torch": torch.__version__,
            "torch_device": torch.cuda.get_device_name() if on_card else f"CPU, {torch.get_num_threads()} threads",
            "capability": "{}.{}".format(*torch.cuda.get_device_capability()) if on_card else None,
            "torch_settings": torch_side.settings(),
            "system": platform.platform(),
            "version": self.options.version,
        }

    def keep(self, part, value):
        self.results[part] = value
        self.store.write_text(json.dumps(self.results, indent=1) + "\n")

    def card_memory(self):
        """Bytes in use on the card by everything; `None` where there is no card."""
        if self.kind != "cuda":
            return None
        free, total = torch.cuda.mem_get_info(self.torch_device)
        return total - free

    def style_model(self, name):
        path = self.folder / f"{name}.safetensors"
        if not path.exists():
            self.rust("export", style=name, to=path)
        return path

    def random_model(self, width):
        path = self.folder / f"random-{width}.safetensors"
        if not path.exists():
            files.write_model(files.bright_random(width), path)
        return path

    def frame(self, width, height):
        path = self.folder / f"{width}x{height}.rgb"
        rgb = torch_side.random_frame(width, height)
        path.write_bytes(rgb.tobytes())
        return path, rgb

    def close(self):
        self.rust.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def correctness(run):
    """Mean and largest differences of 255: impasto on the device against its CPU engine and against PyTorch."""
    sizes = [(65, 47), (96, 64)] if run.quick else [(257, 195), (640, 480)]
    models = {"wave": run.style_model("wave")}
    models |= {f"random, width {width}": run.random_model(width) for width in (QUICK_WIDTHS if run.quick else WIDTHS)}
    rows = []
    for name, path in models.items():
        model = files.read_model(path)
        for width, height in sizes:
            frame, rgb = run.frame(width, height)
            order = {"frame": frame, "width": width, "height": height, "to": run.folder / "painted.f32"}

            def painted(do, **more):
                run.rust(do, **order, **more)
                return np.fromfile(order["to"], np.float32).reshape(height, width, 3)

            engine = painted("engine", model=path)
            with torch_side.exact_f32():
                theirs = files.reference(model, rgb, torch.device("cpu"))
            row = {"model": name, "size": f"{width}×{height}", "engine_torch": difference(engine, theirs)}
            for precision in PRECISIONS:
                try:
                    run.rust("open", name="checked", device=run.options.device, precision=precision, model=path)
                except WorkerError as error:
                    row[precision] = {"error": str(error)}
                    continue
                ours = painted("paint", name="checked")
                row[precision] = {"engine": difference(ours, engine), "torch": difference(ours, theirs)}
            rows.append(row)
            run.keep("correctness", rows)
            say(f"correctness: {name} {width}×{height}")


def difference(one, other):
    apart = np.abs(one.astype(np.float64) - other)
    return {"mean": float(apart.mean()), "largest": float(apart.max())}


def counted(seconds_each, budget):
    """How many are measured in a turn, so that it takes about `budget` seconds."""
    return int(min(200, max(2, budget / max(seconds_each, 1e-6))))


def alternate(run, label, turns):
    """Seconds each of what every contestant does, medians of turns that alternate. `turns`: name to (function of a
    count that gives seconds); what fails is kept as its message."""
    budget, rounds = (0.3, 2) if run.quick else (1.5, 5)
    each, failed = {}, {}
    for name, turn in turns.items():
        try:
            started = time.perf_counter()
            turn(2)  # kernels are compiled and tuned here
            warm = time.perf_counter() - started
            each[name] = turn(2) / 2
            say(f"{label}: {name}: ready after {warm:.1f} s, {each[name] * 1e3:.2f} ms")
        except (WorkerError, RuntimeError, torch.cuda.OutOfMemoryError) as error:
            failed[name] = " ".join(str(error).split())[:200]
            say(f"{label}: {name}: {failed[name]}")
    counts = {name: counted(seconds, budget) for name, seconds in each.items()}
    times = {name: [] for name in each}
    for at in range(rounds):
        names = list(each)
        for name in names[at % len(names) :] + names[: at % len(names)] if names else []:
            times[name].append(turns[name](counts[name]) / counts[name])
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"seconds": medians, "failed": failed}


def painting(run):
    """Frames a second, 8 bits from memory to memory, one after the other and overlapping."""
    rows = []
    for width in QUICK_WIDTHS if run.quick else WIDTHS:
        path = run.random_model(width)
        model = files.read_model(path)
        for size in QUICK_SIZES if run.quick else SIZES:
            _, rgb = run.frame(*size)
            for precision in PRECISIONS:
                turns = {}
                try:
                    run.rust("open", name="painter", device=run.options.device, precision=precision, model=path)
                    ours = True
                except WorkerError as error:
                    ours, refused = False, str(error)
                for overlap in [False, True]:
                    suffix = ", overlapping" if overlap else ""
                    if ours:
                        turns[f"impasto{suffix}"] = lambda count, overlap=overlap: run.rust(
                            "frames", name="painter", width=size[0], height=size[1], frames=count, overlap=overlap
                        )["seconds"]
                    if ours and not overlap and size == (QUICK_SIZES if run.quick else SIZES)[1]:
                        order = {"device": run.options.device, "precision": precision, "model": path}
                        run.rust("open", name="general", operations="general", **order)
                        turns[GENERAL] = lambda count: run.rust(
                            "frames", name="general", width=size[0], height=size[1], frames=count, overlap=False
                        )["seconds"]
                    for compiled in [False, True] if run.options.compile else [False]:
                        key = "torch.compile" if compiled else "PyTorch eager"
                        theirs = torch_side.Painter(model, run.torch_device, precision, compiled)
                        turns[key + suffix] = lambda count, theirs=theirs, overlap=overlap: theirs.frames(rgb, count, overlap)
                label = f"painting {size[0]}×{size[1]}, width {width}, {precision}"
                row = {"size": f"{size[0]}×{size[1]}", "width": width, "precision": precision}
                row |= alternate(run, label, turns)
                if not ours:
                    row["failed"]["impasto"] = refused
                elif GENERAL in turns:
                    run.rust("close", name="general")
                rows.append(row)
                run.keep("painting", rows)
                torch._dynamo.reset()


def training(run):
    """Training images a second, and memory on the card."""
    settings = QUICK_TRAINING if run.quick else TRAINING
    side, batch = settings["side"], settings["batch"]
    photos = np.stack([torch_side.random_frame(side, side, seed) for seed in range(batch)])
    style = torch_side.random_frame(side, side, seed=99)
    (run.folder / "photos.rgb").write_bytes(photos.tobytes())
    (run.folder / "style.rgb").write_bytes(style.tobytes())
    rows = []
    # On the CPU, where a small step says as much.
    small = QUICK_TRAINING["side"]
    apart = torch_training.apart(QUICK_TRAINING, photos[:2, :small, :small].copy(), style[:small, :small].copy())
    for precision in PRECISIONS:
        turns, memory, losses = {}, {}, {}

        def weighed(name, do, **order):
            # What the Rust side takes from the card while it is its turn; its pool gives nothing back.
            before = run.card_memory()
            answer = workers[name](do, **order)
            if before is not None:
                memory[name] = memory.get(name, 0) + max(0, run.card_memory() - before)
            return answer

        def rust(count, name):
            answer = weighed(name, "steps", count=count)
            losses[name] = answer["loss"]
            return answer["seconds"]

        # A new process each: the memory that another training took is not this one's.
        workers, refused = {}, None
        for name, operations in [("impasto", "fused"), (GENERAL, "general")]:
            workers[name] = Worker(run.options.worker, run.options.libraries)
            try:
                weighed(
                    name,
                    "training",
                    **settings,
                    device=run.options.device,
                    precision=precision,
                    operations=operations,
                    photos=run.folder / "photos.rgb",
                    style=run.folder / "style.rgb",
                )
                turns[name] = lambda count, name=name: rust(count, name)
            except WorkerError as error:
                refused = str(error)
        for compiled in [False, True] if run.options.compile else [False]:
            key = "torch.compile" if compiled else "PyTorch eager"
            theirs = torch_training.Training(settings, photos, style, run.torch_device, precision, compiled)

            def turn(count, theirs=theirs, key=key):
                if run.torch_device.type == "cuda":
                    torch.cuda.empty_cache()
                    torch.cuda.reset_peak_memory_stats()
                seconds, losses[key] = theirs.steps(count)
                if run.torch_device.type == "cuda":
                    memory[key] = torch.cuda.max_memory_reserved()
                return seconds

            turns[key] = turn
        row = {"precision": precision, **{key: settings[key] for key in ["width", "side", "batch", "loss_network"]}}
        row |= alternate(run, f"training {precision}", turns)
        if refused:
            row["failed"]["impasto"] = refused
        row["images_per_second"] = {name: batch / seconds for name, seconds in row["seconds"].items()}
        for worker in workers.values():
            worker.close()
        rows.append(row | {"memory": memory, "losses": losses, "torch_apart": apart})
        run.keep("training", rows)
        torch._dynamo.reset()


def profiles(run):
    """Where one frame's time goes on both sides."""
    width, size = (QUICK_WIDTHS[0], QUICK_SIZES[0]) if run.quick else (32, (1920, 1080))
    path = run.random_model(width)
    _, rgb = run.frame(*size)
    rows = []
    for precision in PRECISIONS:
        row = {"precision": precision, "width": width, "size": f"{size[0]}×{size[1]}"}
        try:
            order = {"device": run.options.device, "precision": precision, "model": path}
            order |= {"width": size[0], "height": size[1], "rounds": 3 if run.quick else 10}
            for name, operations in [("impasto", "fused"), (GENERAL, "general")]:
                row[name] = run.rust("profile", operations=operations, **order)["operations"]
        except WorkerError as error:
            row["refused"] = str(error)
        theirs = torch_side.Painter(files.read_model(path), run.torch_device, precision, False)
        row["torch"] = theirs.profile(rgb)
        rows.append(row)
        run.keep("profile", rows)
        say(f"profile: {precision}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--worker", type=Path, required=True, help="the executable impasto-gpu")
    parser.add_argument("--device", default="cuda", help="cpu, cuda[:N] or wgpu[:N]")
    parser.add_argument("--part", choices=[*PARTS, "all", "report"], default="all")
    parser.add_argument("--quick", action="store_true", help="small sizes, a trial of the scripts: figures mean nothing")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"), help="folder for results.json and report.md")
    parser.add_argument("--libraries", default="", help="folders of CUDA's libraries, for impasto-gpu alone")
    parser.add_argument("--version", default="unknown", help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
    options = arguments()
    run = Run(options)
    parts = {"correctness": correctness, "painting": painting, "training": training, "profile": profiles}
    try:
        for name in PARTS:
            if options.part in (name, "all"):
                started = time.perf_counter()
                parts[name](run)
                say(f"{name}: {time.perf_counter() - started:.0f} s")
    finally:
        run.close()
        page = options.out / "report.md"
        page.write_text(report.page(run.results))
        say(f"report: {page}")
    if wrong := report.wrong(run.results):
        sys.exit(f"gpu: {wrong}")


if __name__ == "__main__":
    main()
