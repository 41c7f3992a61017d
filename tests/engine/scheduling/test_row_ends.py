"""How a row ends: its reason, its last text, and where its time went."""

import pytest

from mlxd.engine.parsing.detokenize import RowText
from mlxd.engine.protocol import DecodeRow
from mlxd.engine.scheduling.scheduler import (
    BatchRow,
    BatchStep,
    Prefilled,
    Scheduler,
    Token,
)
from mlxd.events import Timings


class LateLetters:
    """Detokenizer: token n is the letter n, and the last letter shows when the next one is there.

    So do those that can't know yet whether a space belongs to a word.
    """

    def __init__(self) -> None:
        self._text = ""

    def add(self, token: int) -> str:
        shown, self._text = self._text, chr(token)
        return shown

    def finish(self) -> str:
        return self._text


class Clock:
    """Seconds, as a test moves them."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class ToldBatch:
    """Does in each step what it was told."""

    def __init__(self) -> None:
        self.steps: list[BatchStep] = []
        self.removed: list[int] = []
        self.room = True

    def reach(self, row: BatchRow) -> int:
        return 0

    def insert(self, row: BatchRow) -> None:
        row.cached = 1

    def remove(self, row_id: int) -> None:
        self.removed.append(row_id)

    def share(self, row_id: int) -> None:
        raise AssertionError(f"nobody waits for {row_id}")

    def fits(self, longest: int, rows: int) -> bool:
        return self.room

    def step(self) -> BatchStep:
        return self.steps.pop(0)


class Desk:
    """A scheduler with its batch and its clock."""

    def __init__(self) -> None:
        self.batch, self.clock = ToldBatch(), Clock()
        self.scheduler = Scheduler(self.batch, max_batch=1, clock=self.clock)

    def submit(self, row_id: int = 1, *stops: str, window: bool = False) -> None:
        text = RowText(LateLetters(), stops)
        self.scheduler.submit(BatchRow(row_id, [1, 2, 3], 9, text, window=window))

    def step(self, step: BatchStep) -> list[DecodeRow]:
        self.batch.steps.append(step)
        return list(self.scheduler.step().decode)

    def wrote(self, letters: str, end: str | None = None, row_id: int = 1) -> list[DecodeRow]:
        """The row writes these; with the last one it ends as `end` says."""
        found: list[DecodeRow] = []
        for at, letter in enumerate(letters, 1):
            last = end if at == len(letters) else None
            found += self.step(BatchStep(tokens=[Token(row_id, ord(letter), end=last)]))
        return found


def end_of(rows: list[DecodeRow]) -> tuple[str, str, str | None]:
    """The text of a row, why it ended, and at which stop string."""
    *others, last = rows
    assert not any(row.end for row in others)
    assert last.end is not None
    return "".join(row.text for row in rows), last.end.reason, last.end.stop_sequence


@pytest.mark.parametrize("end", ["length", "stop"])
@pytest.mark.parametrize(
    ("letters", "stops", "expected"),
    [
        ("abcd", ("cd",), ("ab", "stop_sequence", "cd")),
        ("abcd", ("d",), ("abc", "stop_sequence", "d")),
        ("abcd", ("xyz", "bcd"), ("a", "stop_sequence", "bcd")),
        ("abcd", ("abcd",), ("", "stop_sequence", "abcd")),
        ("abcd", ("cde",), ("abcd", "", None)),
        ("abcd", (), ("abcd", "", None)),
    ],
)
def test_a_stop_string_that_only_the_end_completes_is_why_the_row_ended(
    end: str, letters: str, stops: tuple[str, ...], expected: tuple[str, str, str | None]
) -> None:
    desk = Desk()
    desk.submit(1, *stops)
    # An end token is one more, which has no text; a row at its limit ends with its last letter.
    rows = desk.wrote(letters + ("." if end == "stop" else ""), end)
    text, reason, stop = expected
    assert end_of(rows) == (text, reason or end, stop)
    # The batch has ended it by itself, and must not be asked to once more.
    assert desk.batch.removed == []
    assert not desk.scheduler.busy


def test_a_stop_string_in_the_middle_ends_the_row_in_the_batch_too() -> None:
    desk = Desk()
    desk.submit(1, "b")
    assert end_of(desk.wrote("abc")) == ("a", "stop_sequence", "b")
    assert desk.batch.removed == [1]


def test_a_row_says_how_long_each_of_its_phases_took() -> None:
    desk = Desk()
    desk.submit()
    desk.batch.room = True
    desk.clock.now += 2.5
    desk.scheduler.admit()
    desk.clock.now += 0.5
    desk.step(BatchStep([Prefilled(1, 2)]))
    desk.clock.now += 7
    desk.step(BatchStep([Prefilled(1, 3, ready=True)]))
    desk.clock.now += 0.25
    desk.wrote("a")
    desk.clock.now += 1
    desk.wrote("b")
    desk.clock.now += 3
    (row,) = desk.wrote("c", "length")
    assert row.end is not None
    assert row.end.timings == Timings(queue=2.5, prefill=7.75, decode=4.0)


def test_who_waits_in_a_full_batch_is_timed_from_when_it_came() -> None:
    desk = Desk()
    desk.submit(1)
    desk.step(BatchStep([Prefilled(1, 3, ready=True)]))
    desk.clock.now += 1
    desk.submit(2)
    desk.clock.now += 8
    desk.wrote("a", "length")
    desk.step(BatchStep([Prefilled(2, 3, ready=True)]))
    desk.clock.now += 2
    (row,) = desk.wrote("a", "length", row_id=2)
    assert row.end is not None
    assert row.end.timings == Timings(queue=8.0, prefill=2.0, decode=0.0)


def test_a_row_counts_its_tokens_with_the_one_that_ends_it() -> None:
    desk = Desk()
    desk.submit(1, "c")
    counted = [row.figures.completion_tokens for row in desk.wrote("abcd")]
    assert counted == [1, 2, 3, 4]


@pytest.mark.parametrize("end", ["length", "stop"])
@pytest.mark.parametrize("window", [True, False])
def test_the_window_ended_a_row_that_had_no_more_room_there_and_met_its_limit(
    end: str, window: bool
) -> None:
    desk = Desk()
    desk.submit(window=window)
    (row,) = desk.wrote("a", end)
    assert row.end is not None
    assert row.end.window is (window and end == "length")
