"""What is to be measured: on which model, how often, how long."""

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """`model` is a folder in mlx-lm's format; `tokens` is the length of an answer.

    `turns` is how many turns each agent's conversation has.
    """

    model: Path
    rounds: int
    tokens: int
    turns: int = 20

    def say(self, line: str) -> None:
        """Progress, apart from the result."""
        print(line, file=sys.stderr, flush=True)
