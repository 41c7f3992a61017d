"""Figures with the goals they are held to, as a table for the terminal and for the docs."""

import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

PAGE = Path("docs/performance.md")
BEGIN, END = "<!-- figures{} -->", "<!-- end of figures{} -->"
"""Around the figures of a run; those of a run of some parts have these parts' names there."""
HEADER = ("measured", "streams", "mlxd", "other", "times as fast", "goal", "")

Unit = Literal["tokens/s", "ms", "events/s", "MB", "s", "%", "% of alone", "KB/s", "tokens"]


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    `samples` has a value of mlxd and, where there is an opponent, of the opponent, for each round.
    With an opponent the goal is on the ratio of speeds, else, and with `goal_alone`, on mlxd's
    median; None: no goal.
    """

    what: str
    unit: Unit
    goal: float | None
    samples: Sequence[tuple[float, float | None]]
    streams: int | None = None
    goal_alone: bool = False

    @property
    def lower_is_better(self) -> bool:
        return self.unit in ("ms", "MB", "s", "%", "KB/s", "tokens")

    @property
    def ours(self) -> float:
        return median(ours for ours, _ in self.samples)

    @property
    def theirs(self) -> float | None:
        values = [theirs for _, theirs in self.samples if theirs is not None]
        return median(values) if values else None

    @property
    def ratio(self) -> float | None:
        """How many times as fast mlxd is: the median of the rounds' own ratios."""
        ratios = [ours / theirs for ours, theirs in self.samples if theirs and ours]
        if not ratios:
            return None
        return 1 / median(ratios) if self.lower_is_better else median(ratios)

    def verdict(self) -> tuple[str, str]:
        """The goal, and whether it is met."""
        if self.goal is None:
            return "", ""
        if self.ratio is not None and not self.goal_alone:
            return f">= {self.goal:.2f}", "met" if self.ratio >= self.goal else "missed"
        if self.lower_is_better:
            return f"<= {self.goal:,.0f}", "met" if self.ours <= self.goal else "missed"
        return f">= {self.goal:,.0f}", "met" if self.ours >= self.goal else "missed"

    def cells(self) -> tuple[str, ...]:
        """This line of the table, in the order of `HEADER`."""
        return (
            f"{self.what}, {self.unit}",
            str(self.streams or ""),
            number(self.ours),
            "" if self.theirs is None else number(self.theirs),
            "" if self.ratio is None else f"{self.ratio:.2f}",
            *self.verdict(),
        )


def number(value: float) -> str:
    """Three figures or more, thousands separated."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(figures: Sequence[Figure]) -> str:
    """A Markdown table that is readable as text."""
    rows = [HEADER, *(figure.cells() for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    lines = [" | ".join(map(str.ljust, row, widths)) for row in rows]
    lines.insert(1, " | ".join("-" * width for width in widths))
    return "\n".join(f"| {line} |" for line in lines)


def machine() -> str:
    """The machine in one line: processor, cores, memory, system."""
    cores = os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    system = f"{platform.system()} {platform.machine()}"
    return f"{processor()}, {cores} cores, {memory:.0f} GB, {system}"


def processor() -> str:
    """The processor's name as the system tells it."""
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return found[1] if found else platform.machine()


def versions() -> str:
    """The software that the figures are about."""
    names = ("mlxd", "mlx", "mlx-lm", "hypercorn", "quart")
    found = [f"{name} {importlib.metadata.version(name)}" for name in names]
    return ", ".join([*found, f"Python {platform.python_version()}", blas()])


def blas() -> str:
    """The BLAS of every contender, as a process of its own tells it."""
    program = "from mlxd.engine.process.blas import load_blas; print(load_blas())"
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def write_page(text: str, parts: Sequence[str], page: Path = PAGE) -> None:
    """Put `text` into the page, where the same `parts` were before; none are a whole run.

    Figures of other runs stay: each run says when and how it was made.
    """
    written = page.read_text(encoding="utf-8")
    name = "".join(f" {part}" for part in parts)
    begin, end = BEGIN.format(name), END.format(name)
    if begin not in written:
        last = END.format("")
        written = written.replace(last, f"{last}\n\n{begin}\n\n{end}")
    head, _, rest = written.partition(begin)
    tail = rest.partition(end)[2]
    page.write_text(f"{head}{begin}\n\n{text}\n\n{end}{tail}", encoding="utf-8")
