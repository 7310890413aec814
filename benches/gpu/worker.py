"""`impasto-gpu` as a Python object: orders out, answers in (`main.rs` says which there are)."""

import json
import subprocess


class WorkerError(Exception):
    """The Rust side refused or failed; one line."""


class Worker:
    def __init__(self, binary):
        self.process = subprocess.Popen([str(binary)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def __call__(self, do, **order):
        order = {key: value for key, value in order.items() if value is not None}
        try:
            self.process.stdin.write(json.dumps({"do": do, **order}, default=str) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"impasto-gpu ended with exit code {self.process.wait()} while it was asked to {do}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self):
        self.process.stdin.close()
        self.process.wait(timeout=60)
