"""What the engine's own code finds on this machine, tried in child processes.

MLX, or the code that a model brings, can end the process that loads it.
"""

import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from mlxd.engine.protocol import ModelChanged, ModelSpec, Ready

COMMAND = (sys.executable, "-m", "mlxd.engine.process.probe")
PROBE_SECONDS = 120
"""How long each report may take to come."""
Probed = tuple[ModelSpec, bool]
"""A model, and whether it is to be loaded; else its tokenizer is read alone."""


class EngineMissing(NamedTuple):
    """What the engine is made of does not load."""

    reason: str


def probe(models: Sequence[Probed]) -> Iterator[Ready | EngineMissing | ModelChanged]:
    """A report on the engine and, unless it is missing, one on each of the models, in their order.

    A model that ends the process costs only the start of another one.
    """
    left, ready = deque(models), False
    while left or not ready:
        reports = _Reports()
        for report in reports.read(list(left)):
            if isinstance(report, ModelChanged):
                left.popleft()
                yield report
            elif not ready:
                ready = True
                yield report
        if not ready:
            yield EngineMissing(reports.end)
            return
        if left:
            spec, _ = left.popleft()
            late = f"it did not load within {PROBE_SECONDS} s"
            reason = late if reports.timed_out else "it ends the process that loads it"
            yield ModelChanged(spec.id, "failed", reason=reason)


class _Reports:
    """The lines of one process, and how it ended."""

    def __init__(self) -> None:
        self.timed_out = False
        self.end = ""

    def read(self, models: list[Probed]) -> Iterator[Ready | ModelChanged]:
        with tempfile.TemporaryFile() as errors:
            with subprocess.Popen(
                COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors
            ) as process:
                assert process.stdin is not None, "it has a pipe"
                # It may be over before it reads.
                with suppress(BrokenPipeError), process.stdin:
                    process.stdin.write(msgspec.json.encode(models))
                while line := self._line(process):
                    yield msgspec.json.decode(line, type=Ready | ModelChanged)
            errors.seek(0)
            lines = errors.read().decode("utf-8", "replace").strip().splitlines()
            late = f"did not load within {PROBE_SECONDS} s"
            self.end = (
                late if self.timed_out else (lines or [f"exit code {process.returncode}"])[-1]
            )

    def _line(self, process: subprocess.Popen[bytes]) -> bytes:
        assert process.stdout is not None, "it has a pipe"
        timer = threading.Timer(PROBE_SECONDS, process.kill)
        timer.start()
        line = process.stdout.readline()
        self.timed_out = timer.finished.is_set()
        timer.cancel()
        return line
