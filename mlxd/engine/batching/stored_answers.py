"""Answers that lie on the disk beside their prefixes, found by the prompts that they answer."""

from collections.abc import Iterator

from mlxd.engine.batching.stored_prefixes import StoredPrefixes
from mlxd.engine.prompt.answers import ALIKE, RememberedAnswer

OPENING = 5.0
"""Seconds that a prompt waits for the folder to be looked through, after a start."""


class DiskAnswers:
    """See `answers.StoredAnswers`; used by the preparing thread alone.

    That reads a small file by itself: the thread of the disk may be busy with large ones for long.
    """

    def __init__(self, stored: StoredPrefixes) -> None:
        self._stored = stored

    def knows(self, scope: str) -> bool:
        self._stored.disk.opened.wait(OPENING)
        found = self._stored.place_of(scope)
        if found is None:
            return False
        _, (_, place) = found
        return self._stored.disk.ask(lambda index: index.has_answers(place))

    def after(self, scope: str, before: bytes) -> Iterator[RememberedAnswer]:
        found = self._stored.place_of(scope)
        if found is None:
            return
        model, (first, place) = found
        disk = self._stored.disk
        prompt = model.prompt_id(first, before)
        for file in disk.ask(lambda index: index.answers(place, prompt))[:ALIKE]:
            if (data := disk.load(file)) is not None:
                disk.used([file])
                yield RememberedAnswer.noted(data.header.note, data.header.tokens)
