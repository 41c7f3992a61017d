"""What lies on the disk, known from names and sizes alone, and what goes first. Pure."""

import math
from collections import OrderedDict, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from mlxd.engine.prefix_disk.spill_file import PositionIds, SpillFile

Tokens = np.ndarray[Any, np.dtype[np.uint32]]


@dataclass(frozen=True)
class LayerNeeds:
    """What a position needs besides its keys and values: so much of windows, and a state."""

    window: int = 0
    state: bool = False


class Needed(NamedTuple):
    """The files that serve `tokens` of a prompt, each with the position where its tokens end."""

    tokens: int
    files: tuple[tuple[SpillFile, int], ...]
    nbytes: int


class _Reached(NamedTuple):
    """A position that a chain of files leads to; `file` is the last of them."""

    id: str
    file: SpillFile | None
    before: int
    nbytes: int
    """Of the whole chain."""


class DiskIndex:
    """All files of a folder, from the one that was used longest ago."""

    def __init__(self) -> None:
        self.nbytes = 0
        self._sizes: OrderedDict[SpillFile, int] = OrderedDict()
        # Of each position, by model and owner: what goes on from it, and what belongs to it.
        self._next: defaultdict[tuple[str, str, str], set[SpillFile]] = defaultdict(set)
        self._at: defaultdict[tuple[str, str, str], set[SpillFile]] = defaultdict(set)
        # By model and owner, then by the prompts that they answer, in the order of their coming.
        self._answers: dict[tuple[str, str], dict[str, dict[SpillFile, None]]] = {}

    def __len__(self) -> int:
        return len(self._sizes)

    def __contains__(self, file: SpillFile) -> bool:
        return file in self._sizes

    def __iter__(self) -> Iterator[SpillFile]:
        return iter(self._sizes)

    def add(self, file: SpillFile, size: int) -> None:
        """A file is there now; it was used last."""
        self.remove(file)
        self._sizes[file] = size
        self.nbytes += size
        if file.kind == "kv":
            self._next[file.model, file.scope, file.start].add(file)
        else:
            self._at[file.model, file.scope, file.end].add(file)
        if file.kind == "answer":
            prompts = self._answers.setdefault((file.model, file.scope), {})
            prompts.setdefault(file.start, {})[file] = None

    def remove(self, file: SpillFile) -> None:
        """A file is gone."""
        self.nbytes -= self._sizes.pop(file, 0)
        table = self._next if file.kind == "kv" else self._at
        at = (file.model, file.scope, file.start if file.kind == "kv" else file.end)
        table[at].discard(file)
        if not table[at]:
            del table[at]
        if file.kind == "answer" and (prompts := self._answers.get((file.model, file.scope))):
            alike = prompts.get(file.start, {})
            alike.pop(file, None)
            if not alike:
                prompts.pop(file.start, None)

    def has_answers(self, place: tuple[str, str]) -> bool:
        """Whether there is any answer of a model and an owner."""
        return bool(self._answers.get(place))

    def answers(self, place: tuple[str, str], prompt: str) -> list[SpillFile]:
        """The answers to a prompt, the newest first."""
        return list(self._answers.get(place, {}).get(prompt, ()))[::-1]

    def use(self, files: Sequence[SpillFile]) -> None:
        """These were used; what others go on from stays longest."""
        for file in reversed(files):
            if file in self._sizes:
                self._sizes.move_to_end(file)

    def demote(self, model: str) -> None:
        """All of a model's files go before any other."""
        for file in [file for file in self._sizes if file.model == model]:
            self._sizes.move_to_end(file, last=False)

    def next_to_go(self) -> SpillFile | None:
        """The file that was used longest ago, of those that no other one needs."""
        return next((file for file in self._sizes if not self._needed(file)), None)

    def _needed(self, file: SpillFile) -> bool:
        at = (file.model, file.scope, file.end)
        return file.kind == "kv" and (at in self._next or at in self._at)

    def longest(
        self,
        ids: PositionIds,
        place: tuple[str, str],
        tokens: Tokens,
        needs: LayerNeeds,
        *,
        least: int = 1,
        most_bytes: float = math.inf,
    ) -> Needed | None:
        """The longest beginning of `tokens` that all is there for, in at most so many bytes.

        It has `least` tokens; one is left to compute where a cache can't be cut.
        """
        reached = self._followed(ids, place, tokens)
        most = len(tokens) - 1 if needs.window or needs.state else len(tokens)
        for position in sorted(reached, reverse=True):
            if position < least:
                return None
            besides = self._besides(place, reached, position, needs) if position <= most else None
            if besides is None:
                continue
            nbytes = reached[position].nbytes + sum(self._sizes[file] for file, _ in besides)
            if nbytes <= most_bytes:
                chain = _chain(reached, position)
                return Needed(position, (*chain, *besides), nbytes)
        return None

    def _followed(
        self, ids: PositionIds, place: tuple[str, str], tokens: Tokens
    ) -> dict[int, _Reached]:
        """Every position of `tokens` that files lead to without a gap.

        Blocks may have been cut elsewhere in another run, so that several chains lead to one.
        """
        reached = {0: _Reached(ids.id, None, 0, 0)}
        left = {0: ids}
        while left:
            at = min(left)
            here = left.pop(at)
            files = self._next.get((*place, reached[at].id), ())
            for length in {file.length for file in files}:
                end = at + length
                if end in reached or not at < end <= len(tokens):
                    continue
                there = here.after(tokens[at:end].tobytes())
                file = SpillFile(*place, "kv", there.id, reached[at].id, length)
                if file in files:
                    nbytes = reached[at].nbytes + self._sizes[file]
                    reached[end], left[end] = _Reached(there.id, file, at, nbytes), there
        return reached

    def _besides(
        self,
        place: tuple[str, str],
        reached: dict[int, _Reached],
        position: int,
        needs: LayerNeeds,
    ) -> list[tuple[SpillFile, int]] | None:
        """The state and the windows that a position needs; None where one is not there."""
        found: list[tuple[SpillFile, int]] = []
        if needs.state:
            states = self._belonging(place, reached[position].id, "state")
            if not states:
                return None
            found.append((states[0], position))
        at, first = position, max(position - needs.window, 0)
        while at > first:
            windows = self._belonging(place, reached[at].id, "window") if at in reached else []
            if not windows or not windows[-1].length:
                return None
            found.append((windows[-1], at))
            at -= windows[-1].length
        return found

    def _belonging(self, place: tuple[str, str], id_: str, kind: str) -> list[SpillFile]:
        files = self._at.get((*place, id_), ())
        return sorted((f for f in files if f.kind == kind), key=lambda file: file.length)


def _chain(reached: dict[int, _Reached], position: int) -> list[tuple[SpillFile, int]]:
    """The files that lead to a position, in their order."""
    chain: list[tuple[SpillFile, int]] = []
    while (file := reached[position].file) is not None:
        chain.append((file, position))
        position = reached[position].before
    return chain[::-1]
