"""impasto and PyTorch on the same card, in the same run: correctness, painting, training, a profile; one report.

Each part is a command of its own (`--part`), so that none takes longer than ten minutes; the same command again goes on
where the last one ended. `run` starts this; README.md says how.
"""

import argparse
import json
import signal
import sys
import time
from pathlib import Path

STARTED = time.monotonic()
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "peers"), str(HERE.parents[1] / "tests" / "golden")]

import correctness  # noqa: E402
import painting  # noqa: E402
import profiling  # noqa: E402
import report  # noqa: E402
import training  # noqa: E402
from session import Session, reason, say, write_page  # noqa: E402
from worker import WorkerError  # noqa: E402

PARTS = {"correctness": correctness, "painting": painting, "training": training, "profile": profiling}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--worker", type=Path, required=True, help="the executable impasto-gpu")
    add("--libraries", default="", help="folders of CUDA's libraries, for impasto-gpu alone")
    add("--version", default="unknown", help=argparse.SUPPRESS)
    add("--device", default="cuda", help="cpu, cuda[:N] or wgpu[:N]")
    add("--part", choices=[*PARTS, "all", "report"], default="all")
    add("--out", type=Path, default=Path("gpu-report"), help="folder for results.json and report.md")
    add("--limit", type=float, metavar="SECONDS", help="begin no row later than this")
    again = "measure rows again that are there: none (the default), those where something failed, all (--quick's default)"
    add("--again", nargs="?", const="all", choices=["none", "failed", "all"], help=again)
    add("--width", type=int, action="append", help="painting: only this width of the network (repeatable)")
    add("--size", type=size, action="append", metavar="WxH", help="painting: only frames of this size (repeatable)")
    add("--precision", choices=painting.PRECISIONS, action="append", help="all parts but correctness: only this")
    add("--rounds", type=positive(int), help="rounds of turns (3, --quick 2)")
    add("--turn", type=positive(float), metavar="SECONDS", help="length of a turn (1, --quick 0.3)")
    add("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    add("--quick", action="store_true", help="small sizes, a trial of the scripts: figures mean nothing")
    options = parser.parse_args()
    options.rounds = options.rounds or (2 if options.quick else 3)
    options.turn = options.turn or (0.3 if options.quick else 1.0)
    options.again = options.again or ("all" if options.quick else "none")
    return options


def size(text):
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"`{text}` is no size, expected one like 1920x1080")
    return int(width), int(height)


def positive(kind):
    def read(text):
        if not (value := kind(text)) > 0:
            raise argparse.ArgumentTypeError(f"{text}, expected more than 0")
        return value

    return read


def main():
    options = arguments()
    # Told to end, it still ends its processes.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("gpu: told to end; the rows that are done are kept"))
    if options.part == "report":  # anywhere: no card is needed
        say(f"report: {write_page(options.out, json.loads((options.out / 'results.json').read_text()))}")
        return
    try:
        session = Session(options, STARTED)
    except (WorkerError, OSError) as error:
        sys.exit(f"gpu: {error}")
    with session:
        session.write()
        for name, part in PARTS.items():
            if options.part not in (name, "all"):
                continue
            started = time.perf_counter()
            try:
                part.measure(session)
            except Exception as error:
                session.trouble.append(f"{name}: {reason(error)}")
                say(session.trouble[-1])
            say(f"{name}: {time.perf_counter() - started:.0f} s")
        say(f"report: {options.out / 'report.md'}")
    if wrong := [*session.trouble, *report.wrong(session.results)]:
        sys.exit("\n".join(f"gpu: {line}" for line in wrong))


if __name__ == "__main__":
    main()
