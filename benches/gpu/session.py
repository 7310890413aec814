"""What all parts of a comparison share: the two sides, the files between them, the time, and the results as they come.

A part hands its rows to `Session.row` one by one. Each is kept in `OUT/results.json` and on the page as soon as it is
done, so that a command that is cut off loses the row it was at; the next one goes on behind the rows that are there.
"""

import contextlib
import datetime
import hashlib
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

import files
import report
import torch
import torch_side
from worker import Worker, WorkerError

#: Rows are kept where all of these are as they were: what is on one page was measured with one thing.
SAME = ["device", "card", "quick", "version", "executable", "torch", "torch_device", "torch_settings"]


def say(text):
    print(f"gpu: {text}", file=sys.stderr, flush=True)


def reason(error):
    """One line that says what failed."""
    text = str(error) if isinstance(error, WorkerError) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:300]


def kernels_kept(facts):
    """A folder for workers to begin in, where CubeCL is told to keep what NVRTC makes of its kernels.

    It tells kernels apart by their names, not by what is in them nor by the card: the folder is this executable's and
    this card's. impasto itself does not keep them, since it cannot say the former.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "impasto"
    card = "".join(letter if letter.isalnum() else "-" for letter in facts["card"])
    folder = cache / f"comparison-{facts['executable']}-{card}"
    settings = "".join(
        f"[{section}]\ncache = {{ file = {json.dumps(str(place))} }}\n"
        for section, place in [("autotune", cache), ("compilation", folder)]
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cubecl.toml").write_text(settings)
    except OSError as error:
        say(f"kernels are compiled anew by every process: {reason(error)}")
        return None
    return folder


class Session:
    def __init__(self, options, started):
        self.options, self.quick, self.started = options, options.quick, started
        self.trouble = []
        self.kind, _, index = options.device.partition(":")
        # PyTorch has no wgpu: it is on CUDA where there is a card, and on the CPU otherwise.
        card = torch.cuda.is_available() and self.kind != "cpu"
        on = f"cuda:{index or 0}" if card and self.kind == "cuda" else "cuda" if card else "cpu"
        self.torch_device = torch.device(on)
        torch_side.take_the_fastest()
        self.home = None
        facts = self.facts()
        options.out.mkdir(parents=True, exist_ok=True)
        self.store = options.out / "results.json"
        self.results = self.kept(facts) | {"facts": facts}
        self.home = kernels_kept(facts) if self.kind == "cuda" else None
        self.folder = Path(tempfile.mkdtemp(prefix="impasto-gpu-"))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.folder, ignore_errors=True)

    def worker(self):
        """A new process of the Rust side. Tuning passes from one to the next through the user's cache folder."""
        return Worker(self.options.worker, self.options.libraries, self.home)

    def facts(self):
        with self.worker() as rust:
            found = rust("devices")["devices"]
        asked = f"{self.kind}:0" if self.options.device == self.kind else self.options.device
        names = {item["device"] if ":" in item["device"] else f"{item['device']}:0": item["name"] for item in found}
        if asked not in names:
            there = ", ".join(item["device"] for item in found)
            hint = "hint: --device cpu tries the scripts"
            raise WorkerError(f"device {self.options.device} is not there (there: {there}); {hint}")
        on_card = self.torch_device.type == "cuda"
        threads = f"CPU, {torch.get_num_threads()} threads"
        return {
            "device": self.options.device,
            "card": names[asked],
            "quick": self.quick,
            "date": datetime.date.today().isoformat(),
            "torch": torch.__version__,
            "torch_device": torch.cuda.get_device_name(self.torch_device) if on_card else threads,
            "capability": "{}.{}".format(*torch.cuda.get_device_capability(self.torch_device)) if on_card else None,
            "torch_settings": torch_side.settings(),
            "system": platform.platform(),
            "version": self.options.version,
            # A version that says "dirty" may be two things.
            "executable": hashlib.sha256(self.options.worker.read_bytes()).hexdigest()[:12],
        }

    def kept(self, facts):
        """Earlier results of the same kind; others are set aside."""
        if not self.store.exists():
            return {}
        try:
            kept = json.loads(self.store.read_text())
            changed = [key for key in SAME if kept["facts"].get(key) != facts[key]]
        except (ValueError, KeyError, AttributeError):
            kept, changed = {}, ["the file"]
        if changed:
            aside = self.store.with_suffix(".before.json")
            self.store.replace(aside)
            say(f"earlier results set aside as {aside.name}: not the same: {', '.join(changed)}")
            return {}
        return kept

    def row(self, part, label, key, work):
        """Has `work` fill a row, which `key` tells from the others, and keeps it. Unless it is there, or time is up.

        What `work` raises ends this row and no other.
        """
        rows = self.results.get(part, [])
        there = next((row for row in rows if is_of(row, key)), None)
        if there is not None and not self.is_wanted_again(there):
            lacks = f"; failed then: {', '.join(there['failed'])}; hint: --again failed" if there["failed"] else ""
            say(f"{label}: measured before{lacks}")
            return
        limit = self.options.limit
        if limit is not None and time.monotonic() - self.started > limit:
            say(f"{label}: left for the next call, {limit} s are over")
            return
        row = key | {"failed": {}, "date": datetime.datetime.now().isoformat(timespec="seconds")}
        before = time.monotonic()
        try:
            work(row)
        except Exception as error:
            row["failed"]["this row"] = reason(error)
            self.trouble.append(f"{label}: {reason(error)}")
            say(self.trouble[-1])
        row["took"] = round(time.monotonic() - before, 1)
        say(f"{label}: {row['took']:.0f} s")
        self.results[part] = [row for row in self.results.get(part, []) if not is_of(row, key)] + [row]
        self.write()
        self.free_memory(compiled=self.options.compile)

    def is_wanted_again(self, row):
        again = self.options.again
        return again == "all" or (again == "failed" and bool(row["failed"]))

    def write(self):
        """The results and the page, each replaced as a whole."""
        write_whole(self.store, json.dumps(self.results, indent=1) + "\n")
        try:
            write_page(self.options.out, self.results)
        except Exception as error:  # the figures are kept; the page can be written later (`--part report`)
            self.trouble.append(f"the page: {reason(error)}")
            say(self.trouble[-1])

    def free_memory(self, compiled=False):
        """Of PyTorch. After an error on the card it may fail as well, and is then not worth another."""
        with contextlib.suppress(Exception):
            if compiled:
                torch._dynamo.reset()
            torch_side.free_memory(self.torch_device)

    def card_memory(self):
        """Bytes in use on the card by everything; `None` where that is not to be had."""
        if self.kind != "cuda" or self.torch_device.type != "cuda":
            return None
        try:
            free, total = torch.cuda.mem_get_info(self.torch_device)
        except RuntimeError:
            return None
        return total - free

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


def is_of(row, key):
    return all(row.get(name) == value for name, value in key.items())


def write_whole(path, text):
    """Through another name: a command may be killed at any moment."""
    draft = path.with_suffix(path.suffix + ".new")
    draft.write_text(text)
    os.replace(draft, path)


def write_page(folder, results):
    path = folder / "report.md"
    write_whole(path, report.page(results))
    return path
