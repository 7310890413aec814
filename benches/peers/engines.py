"""Every engine behind one interface, each in a process of its own: paint a frame, time a turn of frames.

Separate processes, because thread pools that share one disturb each other, and because memory is a process's.
"""

import hashlib
import json
import multiprocessing
import os
import subprocess
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import networks

# Pixels the picture moves from one frame to the next, as in `impasto bench`.
STEP_X, STEP_Y = 37, 23


def shifted(picture, index):
    """Frame `index`: the picture moved, what leaves on one side coming in on the other."""
    return np.ascontiguousarray(np.roll(picture, (-STEP_Y * index, -STEP_X * index), axis=(0, 1)))


class EngineError(Exception):
    """Why an engine is not in the table, in one line."""


@dataclass
class Turn:
    """What one engine's turn within a round gave, in milliseconds."""

    median: float
    least: float


@dataclass
class Job:
    """One network at one frame size, as files that every process can read."""

    model: Path
    graph: Path  # the same as ONNX, for the picture's size
    picture: Path  # a PNG of the frames' size; the frames are its shifted copies
    threads: int
    cache: Path

    @staticmethod
    def prepare(model, picture, threads, folder):
        """The job, with its ONNX graph written into `folder`."""
        from PIL import Image

        width, height = Image.open(picture).size
        # By the whole path: two models of one name are two graphs.
        digest = hashlib.sha256(str(model.resolve()).encode()).hexdigest()[:16]
        graph = folder / f"{digest}-{width}x{height}.onnx"
        if not graph.exists():
            graph.write_bytes(networks.onnx_graph(networks.read(model), width, height))
        return Job(model, graph, picture, threads, folder / "inductor")

    def frame(self):
        from PIL import Image

        return np.array(Image.open(self.picture).convert("RGB"))


# --------------------------------------------------------------------------------------------------- ours


class Impasto:
    """`impasto bench` for the time, `impasto stylize` for the picture."""

    name = "impasto"

    def __init__(self, binary, job, precision, isa=None):
        self.binary, self.job, self.asked, self.forced = binary, job, precision, isa
        self.peak_mb = 0.0

    def probe(self):
        """Finds out what it paints with here; not the time it takes."""
        report = self._bench(0, 1)
        self.isa, self.precision = report["isa"], report["precision"]
        if self.forced not in (None, self.isa):
            raise EngineError(f"IMPASTO_ISA={self.forced}: this build painted with `{self.isa}`")
        self.name = f"impasto ({self.isa})"
        self.how = "a process a turn" + (f", IMPASTO_ISA={self.forced}" if self.forced else "")
        return self

    def _impasto(self, *arguments):
        environment = {key: value for key, value in os.environ.items() if key != "IMPASTO_ISA"}
        if self.forced is not None:
            environment["IMPASTO_ISA"] = self.forced
        options = ["--model", self.job.model, "--precision", self.asked, "--threads", str(self.job.threads)]
        done = subprocess.run(
            [self.binary, *map(str, arguments), *map(str, options)], env=environment, capture_output=True, text=True
        )
        if done.returncode != 0:
            raise EngineError(" ".join(done.stderr.split()) or f"impasto: exit code {done.returncode}")
        return done.stdout

    def _bench(self, warmup, frames):
        from PIL import Image

        width, height = Image.open(self.job.picture).size
        arguments = ["bench", "--json", "--size", f"{width}x{height}", "--input", self.job.picture]
        return json.loads(self._impasto(*arguments, "--warmup", warmup, "--frames", frames))

    def turn(self, first, warmup, frames):
        """`first` does not matter here: a process begins with its own frame 0."""
        report = self._bench(warmup, frames)
        self.peak_mb = max(self.peak_mb, report["peak_rss_mb"] or 0.0)
        return Turn(report["median_ms"], report["min_ms"])

    def paint(self, rgb):
        from PIL import Image

        with tempfile.TemporaryDirectory() as folder:
            photo, painted = Path(folder, "photo.png"), Path(folder, "painted.png")
            Image.fromarray(rgb).save(photo)
            self._impasto("stylize", photo, "-o", painted)
            return np.array(Image.open(painted).convert("RGB"))

    def close(self):
        pass


# --------------------------------------------------------------------------------------------------- theirs


def build_torch(job, precision, options):
    import torch

    torch.set_num_threads(job.threads)
    torch.set_flush_denormal(True)
    dtype = torch.float32 if precision == "f32" or options.get("autocast") else torch.bfloat16
    module = networks.torch_module(networks.read(job.model), dtype)
    if options.get("compile"):
        import torch._inductor.config

        torch._inductor.config.freezing = True  # weights are packed once
        module = torch.compile(module)

    def paint(rgb):
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bool(options.get("autocast"))):
            return module(torch.from_numpy(rgb)).numpy()

    return paint, precision, ""


def build_onnxruntime(job, precision, options):
    import onnxruntime

    session_options = onnxruntime.SessionOptions()
    session_options.intra_op_num_threads = job.threads
    session_options.inter_op_num_threads = 1
    session_options.log_severity_level = 3
    session_options.add_session_config_entry("session.set_denormal_as_zero", "1")
    session_options.add_session_config_entry("session.intra_op.allow_spinning", str(int(options["spinning"])))
    session = onnxruntime.InferenceSession(job.graph, session_options, providers=["CPUExecutionProvider"])
    return (lambda rgb: session.run(None, {"frame": rgb[None]})[0][0]), "f32", ""


def build_openvino(job, precision, options):
    import openvino

    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(job.graph),
        "CPU",
        {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": job.threads,
            **options,
        },
    )
    request = compiled.create_infer_request()

    def paint(rgb):
        return request.infer({0: openvino.Tensor(rgb[None], shared_memory=True)}, share_outputs=True)[0][0]

    # What was asked for is a hint; what the graph's convolutions run in is the truth.
    ran = Counter()
    for operation in compiled.get_runtime_model().get_ordered_ops():
        facts = operation.get_rt_info()
        if facts["layerType"].astype(str) in ("Convolution", "Deconvolution"):
            ran[(facts["runtimePrecision"].astype(str), facts["primitiveType"].astype(str))] += 1
    (resolved, kernel), _ = ran.most_common(1)[0]
    hint = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return paint, resolved, f"hint {hint}; convolutions {', '.join(f'{n}× {k}' for (_, k), n in ran.items())}"


def build_reference(job, precision, options):
    import torch

    torch.set_num_threads(job.threads)
    model = networks.read(job.model)
    return (lambda rgb: networks.reference(model, rgb)), "f32", ""


def serve(connection, build, job, precision, options, environment):
    """A peer's process: builds the engine, then answers until the other side hangs up."""
    os.environ.update(environment)  # before a library that reads it is loaded
    try:
        paint, resolved, facts = build(job, precision, options)
        picture = job.frame()
        paint(picture)
        connection.send((resolved, facts))
        while (request := connection.recv()) is not None:
            connection.send(answer(paint, picture, *request))
    except EOFError:
        pass
    except Exception as error:  # noqa: BLE001 - whatever a peer throws is the reason it is left out
        connection.send(EngineError(" ".join(f"{type(error).__name__}: {error}".split())[:300]))


def answer(paint, picture, what, *arguments):
    if what == "paint":
        return np.array(paint(arguments[0]))  # a copy: the engine may own what it gave
    first, warmup, frames = arguments
    times = []
    for index in range(warmup + frames):
        frame = shifted(picture, first + index)
        started = time.perf_counter()
        paint(frame)
        elapsed = time.perf_counter() - started
        if index >= warmup:
            times.append(elapsed * 1e3)
    return Turn(float(np.median(times)), min(times)), peak_mb()


def peak_mb():
    """The most memory that this process has held, in 10^6 bytes, as `impasto bench` has it; 0 where not known."""
    # Not `getrusage`: there a process begins with what its parent held.
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


@dataclass
class Variant:
    """One way to set a peer up."""

    how: str
    options: dict = field(default_factory=dict)
    environment: dict = field(default_factory=dict)


class Peer:
    """An engine in a Python process of its own."""

    def __init__(self, name, build, job, precision, variant):
        self.name, self.asked = name, precision
        self.peak_mb = 0.0
        context = multiprocessing.get_context("spawn")
        self._connection, theirs = context.Pipe()
        environment = {"TORCHINDUCTOR_CACHE_DIR": str(job.cache), "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        arguments = (theirs, build, job, precision, variant.options, environment | variant.environment)
        self._process = context.Process(target=serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        try:
            self.precision, facts = self._receive()
        except EngineError:
            self.close()
            raise
        self.how = "; ".join(part for part in (variant.how, facts) if part)

    def _receive(self):
        try:
            reply = self._connection.recv()
        except EOFError:
            raise EngineError("its process ended without a word") from None
        if isinstance(reply, EngineError):
            raise reply
        return reply

    def turn(self, first, warmup, frames):
        self._connection.send(("time", first, warmup, frames))
        turn, self.peak_mb = self._receive()
        return turn

    def paint(self, rgb):
        self._connection.send(("paint", rgb))
        return self._receive()

    def close(self):
        try:
            self._connection.send(None)
        except OSError:
            pass
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()
        self._connection.close()


# Threads that wait by spinning are faster on a quiet machine and far slower on a busy one, so both ways are tried.
PASSIVE = {"OMP_WAIT_POLICY": "PASSIVE"}

# name: (how it is built, {precision: variants, the usual best first})
PEERS = {
    "PyTorch": (
        build_torch,
        {
            "f32": [
                Variant("torch.compile, passive waiting", {"compile": True}, PASSIVE),
                Variant("torch.compile", {"compile": True}),
                Variant("eager, passive waiting", {}, PASSIVE),
                Variant("eager"),
            ],
            "bf16": [
                Variant("torch.compile, passive waiting", {"compile": True}, PASSIVE),
                Variant("torch.compile", {"compile": True}),
                Variant("eager, passive waiting", {}, PASSIVE),
                Variant("eager"),
                Variant("eager autocast, passive waiting", {"autocast": True}, PASSIVE),
            ],
        },
    ),
    "ONNX Runtime": (
        build_onnxruntime,
        {
            "f32": [
                Variant("spinning (default)", {"spinning": True}),
                Variant("no spinning", {"spinning": False}),
            ]
        },
    ),
    "OpenVINO": (
        build_openvino,
        {
            precision: [
                Variant("pinned (default)"),
                Variant("not pinned", {"ENABLE_CPU_PINNING": False}),
            ]
            for precision in ("f32", "bf16")
        },
    ),
}


def fastest(name, job, precision, frames, say):
    """The peer, set up in the way that is fastest here: each is timed for `frames` frames; 0 takes the first."""
    build, by_precision = PEERS[name]
    variants = by_precision[precision]
    best, best_time, reasons = None, float("inf"), []
    for variant in variants if frames > 0 else variants[:1]:
        try:
            peer = Peer(name, build, job, precision, variant)
            taken = peer.turn(0, 2, frames).median if frames > 0 else 0.0
        except EngineError as error:
            reasons.append(f"{variant.how}: {error}")
            continue
        if frames > 0:
            say(f"  {name} {precision}, {variant.how}: {taken:.1f} ms")
        if taken < best_time:
            best, peer, best_time = peer, best, taken
        if peer is not None:
            peer.close()
    for reason in reasons:
        say(f"  {name} {precision}, {reason}")
    if best is None:
        raise EngineError(f"{name} {precision}: no way of setting it up worked here")
    return best
