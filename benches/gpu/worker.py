"""`impasto-gpu` as a Python object: orders out, answers in (`main.rs` says which there are)."""

import contextlib
import json
import os
import selectors
import subprocess

#: Seconds that an answer may take. The first paintings of a size wait for the compiler; a card that hangs never answers.
PATIENCE = 300


class WorkerError(Exception):
    """The Rust side refused or failed; one line."""


class Worker:
    """A process of impasto-gpu. One that ended answers every order with an error until it is revived."""

    def __init__(self, binary, libraries="", home=None):
        self.binary, self.libraries, self.home = os.path.abspath(binary), libraries, home
        self.start()

    def start(self):
        paths = [self.libraries, os.environ.get("LD_LIBRARY_PATH", "")]
        self.process = subprocess.Popen(
            [self.binary],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            cwd=self.home,
            env=os.environ | {"LD_LIBRARY_PATH": ":".join(path for path in paths if path)},
        )

    def revive(self):
        """Starts the process anew if it ended; whether it did. What was open in it is lost."""
        if self.process.poll() is None:
            return False
        self.close()
        self.start()
        return True

    def __call__(self, do, **order):
        order = {key: value for key, value in order.items() if value is not None}
        try:
            self.process.stdin.write(json.dumps({"do": do, **order}, default=str) + "\n")
            self.process.stdin.flush()
            line = self.answer(do)
        except (BrokenPipeError, ValueError):  # it ended, or it was closed
            line = ""
        if not line.endswith("\n"):
            raise WorkerError(f"impasto-gpu ended with exit code {self.ended()} at the order `{do}`")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def answer(self, do):
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if not selector.select(PATIENCE):
                self.process.kill()
                self.ended()
                raise WorkerError(f"impasto-gpu did not answer within {PATIENCE} s to the order `{do}`")
        return self.process.stdout.readline()

    def ended(self):
        """Its exit code; it is killed where it closed its output and stays."""
        try:
            return self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def close(self):
        """Ends it; nothing is raised, whatever state it is in."""
        with contextlib.suppress(OSError, ValueError):
            self.process.stdin.close()
        self.ended()
        self.process.stdout.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
