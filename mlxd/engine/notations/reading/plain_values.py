"""Where a value ends that a notation writes as plain text, without escaping anything.

A value may hold all of the notation's own tags, as files and documents about calls do:

- A closing tag ends the value if what may follow it does: another parameter of the tool, the end of
  the call, of the region around calls, or of the answer. Every other one is text.
- Openings of the tool's own parameters, and of whole calls, are text too, and so are the closing
  tags that belong to them.
- Where that does not come out even by the end of the answer, the first place counts at which the
  rule held outside of a whole call that the value shows; else the last one inside of such calls.

Behind a place that may still turn out to be the end, text is held back; all else passes at once.
"""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from enum import Enum, IntEnum, auto
from typing import Literal, NamedTuple

from mlxd.engine.notations.reading.calls import MAX_HEAD
from mlxd.engine.notations.reading.scanner import SPACE, Scanner, Steps, markers_of

# Possessive, so that a tag that is no attribute list is given up in linear time.
_ATTRIBUTE = re.compile(r"""(?<![\w-])([\w-]++)\s*+=\s*+(?:"([^"]*+)"|'([^']*+)'|([^\s"'>]++))""")
_SPACE = re.compile(r"\s")
_LONGEST_NAME = 2 * MAX_HEAD


@dataclass(frozen=True)
class ValueMarks:
    """The tags that can stand around plain values, for their reader and their grammar alike.

    `closing` closes a value, `member` stands around a parameter's key, which is the attribute
    `keyed_by` if that is set. `call` begins a call, and `named` is an expression for what stands
    between it and its first member. A call ends with `call_end`; where calls stand in a region, one
    tells its end by what follows. `whole` opens what may stand in place of the members, and `value`
    a value where the key has a closing tag of its own, which may be missing. With
    `lines` each value has lines of its own.
    """

    closing: str
    member: tuple[str, str]
    call: str
    named: str
    call_end: str
    region: str = ""
    region_end: str = ""
    keyed_by: str = ""
    whole: str = ""
    value: str = ""
    lines: bool = False

    def key(self, head: str) -> str:
        """The key in what stands between the texts of `member`; empty where there is none."""
        return attribute(self.member[0] + head, self.keyed_by) if self.keyed_by else head.strip()


def attribute(tag: str, name: str) -> str:
    """An attribute of an opening tag; empty where it has none."""
    for key, *values in _ATTRIBUTE.findall(tag):
        if key == name:
            return "".join(values).replace("&quot;", '"').replace("&amp;", "&").strip()
    return ""


class ValueEnd(Enum):
    """How a value ended."""

    CLOSED = auto()
    UNCLOSED = auto()
    """What ends it stands next; its closing tag is missing."""
    CUT = auto()
    """With the text."""


class _Rank(IntEnum):
    """How much speaks for a place as the end."""

    PART = auto()
    """A part of the rule, outside of calls that the value shows."""
    INSIDE = auto()
    """The rule, inside of such a call."""
    UNCLOSED = auto()
    """All tags but the value's own."""
    RULE = auto()
    """The rule, outside of such calls."""


class _Place(NamedTuple):
    """A place that may be the value's end: where its text ends, and where reading goes on."""

    start: int
    end: int
    rank: _Rank = _Rank.UNCLOSED
    key: str = ""
    """The parameter that follows, if one does."""


@dataclass(frozen=True)
class _Closer:
    """A tag that ends the value if the right things follow: its closing tag, or the call's end.

    `ended` says that the call's end came behind the value's, or the region's behind the call's.
    """

    start: int
    end: int
    balanced: bool
    inside: bool
    ended: bool = False

    @property
    def missing(self) -> bool:
        return self.start == self.end


class PlainValue:
    """Reads one plain value.

    `known` says whether the tool has a parameter of a name, `owed` are those that it needs and has
    not been given. `in_region` says that a region stands around the call.
    """

    def __init__(
        self,
        scan: Scanner,
        marks: ValueMarks,
        emit: Callable[[str], None],
        *,
        known: Callable[[str], bool],
        owed: Collection[str] = (),
        in_region: bool = False,
    ) -> None:
        self._scan = scan
        self._marks = marks
        self._emit = emit
        self._known = known
        self._owed = owed
        self._confirmed = in_region and marks.region_end != ""
        follow = (marks.member[0], marks.call_end, marks.region_end, marks.region, marks.whole)
        self._follow = markers_of(*follow)
        self._markers = markers_of(marks.closing, marks.call, *follow)
        self._open: list[Literal["call", "member"]] = []
        """What the value has opened and not closed."""
        self._torn = False
        """A call that it shows ended without the closing tag of a value."""
        self._closer: _Closer | None = None
        self._best: _Place | None = None
        self._latest: _Place | None = None
        self._unclosed: _Place | None = None
        self._end: _Place | None = None
        self._name: str | None = None
        """The text since a call was opened whose first member has not come."""
        self._last = "\n" if marks.lines else ""
        self._blank = True
        self._held: list[str] = []
        self._held_from = 0

    def read(self) -> Steps[ValueEnd]:
        """Emit the value's text; the scanner then stands behind its closing tag."""
        scan = self._scan
        while self._end is None:
            text, marker = yield from scan.piece(self._markers, take_marker=False)
            if text:
                self._text(text)
            if marker:
                yield from self._tag(scan.take(len(marker)))
            elif not text:
                return self._at_end()
        return self._finish(self._end)

    def _text(self, text: str) -> None:
        """Text between two tags, or the beginning of one that the answer ends in."""
        scan = self._scan
        unfinished = scan.ended and not scan.char and self._follow.begin_with(text.lstrip(SPACE))
        if text.strip(SPACE) and not unfinished:
            self._settle(rule=False)
            self._blank = False
        if self._name is not None:
            self._name = self._name + text if len(self._name) < _LONGEST_NAME else None
        self._keep(text)

    def _tag(self, marker: str) -> Steps[None]:
        marks, scan = self._marks, self._scan
        start = scan.offset - len(marker)
        name, self._name = self._name, None
        if marker == marks.member[0]:
            yield from self._member(start, name)
            return
        if marker == marks.closing:
            self._settle(rule=False)
            inside = "call" in self._open
            self._closer = _Closer(start, scan.offset, self._balanced, inside)
            # In a file any closing tag belongs to the last opening; in a call that is shown, the
            # rule holds as it does here.
            if self._open and not inside:
                self._open.pop()
        elif marker == marks.call_end:
            self._call_end(start)
        elif marker == marks.region_end:
            self._region_end()
        else:
            # Another call, a region around one, or what stands for all parameters.
            ended = self._closer is not None and self._closer.ended
            self._settle(rule=ended or marker == marks.whole)
            self._name = "" if marker == marks.call else None
        self._keep(marker)

    def _call_end(self, start: int) -> None:
        closer = self._closer
        if closer is not None and not closer.missing and not closer.ended:
            if closer.inside:
                self._leave_call()
            self._closer = replace(closer, ended=True)
            if not self._confirmed:
                self._settle(rule=True)
            return
        self._settle(rule=False)
        if self._open[-1:] == ["call"]:
            self._leave_call()
        elif self._marks.region_end:
            self._closer = _Closer(start, start, balanced=False, inside="call" in self._open)

    def _region_end(self) -> None:
        closer = self._closer
        if closer is None or not closer.missing or closer.ended:
            self._settle(rule=closer is not None and not closer.missing)
        elif closer.inside:
            self._leave_call()
            self._torn = True
            self._settle(rule=False)
        else:
            self._closer = replace(closer, ended=True)

    @property
    def _balanced(self) -> bool:
        """Whether all that the value opened is closed, and by tags of its own."""
        doubt = self._torn and self._best is not None and self._best.rank is _Rank.RULE
        return not self._open and not doubt

    @property
    def _needed(self) -> _Place | None:
        """The place behind which a parameter is opened that the call would lack without it."""
        best = self._best
        found = best is not None and best.rank is _Rank.RULE and best.key in self._owed
        return best if found else None

    def _leave_call(self) -> None:
        while self._open.pop() != "call":
            pass

    def _member(self, start: int, name: str | None) -> Steps[None]:
        marks, scan = self._marks, self._scan
        opening, end = marks.member
        head = yield from scan.head(end, MAX_HEAD)
        torn = head is None and marks.value != ""
        if torn:
            end = marks.value
            head = yield from scan.head(end, MAX_HEAD)
        if head is None:
            if scan.ended and len(rest := scan.ahead(MAX_HEAD)) < MAX_HEAD and "<" not in rest:
                opening += scan.rest()
            else:
                self._settle(rule=False)
                self._blank = False
            self._keep(opening)
            return
        key = marks.key(head)
        known = key != "" and (self._known(key) or (torn and not _SPACE.search(key)))
        follows = self._closer is not None and not self._closer.missing and not self._closer.ended
        if follows and "call" in self._open and self._open[-1] == "member":
            self._open.pop()
        self._settle(rule=follows and known, key=key)
        if not follows and known and not self._open:
            yield from self._may_be_unclosed(start, key)
        if name is not None and re.fullmatch(marks.named, name):
            self._open += ["call", "member"]
        elif self._open[-1:] == ["call"] or (known and "call" not in self._open):
            self._open.append("member")
        self._blank = False
        self._keep(opening + head + end)

    def _may_be_unclosed(self, start: int, key: str) -> Steps[None]:
        """A parameter that is still needed, opened on a line of its own, may really begin there."""
        if self._unclosed or key not in self._owed or self._blank or self._last != "\n":
            return
        if not self._marks.lines or (yield from self._scan.starts("\n")):
            self._unclosed = _Place(start, start, key=key)

    def _settle(self, *, rule: bool, key: str = "") -> None:
        """Judge the last closing tag, now that what follows it is known."""
        closer, self._closer = self._closer, None
        if closer is None:
            return
        rank = None
        if closer.missing:
            part = _Rank.PART if closer.ended else None
            rank = _Rank.UNCLOSED if rule else part
        elif rule:
            rank = _Rank.INSIDE if closer.inside else _Rank.RULE
        elif closer.ended and not closer.inside:
            rank = _Rank.PART
        if rank is not None:
            place = _Place(closer.start, closer.end, rank, key)
            if rule and closer.balanced:
                self._end = self._needed if not key and self._needed else place
            else:
                self._add(place)
        elif self._best is None and self._unclosed is None:
            self._release(self._scan.offset)

    def _add(self, place: _Place) -> None:
        if self._unclosed is not None and place.key == self._unclosed.key:
            # The parameter comes later: its opening before was a word of the value.
            self._unclosed = None
        best, self._latest = self._best, place
        if best is None or place.rank > best.rank or place.rank == best.rank == _Rank.INSIDE:
            best = self._best = place
        self._release(min(each.start for each in (best, self._unclosed) if each is not None))

    def _keep(self, text: str) -> None:
        self._last = text[-1:] or self._last
        if self._closer or self._best or self._unclosed or self._end:
            if not self._held:
                self._held_from = self._scan.offset - len(text)
            self._held.append(text)
        else:
            self._emit(text)

    def _release(self, upto: int) -> str:
        """Emit what is held up to an offset; returns the rest, which stays held."""
        if not self._held or upto <= self._held_from:
            return ""
        held = "".join(self._held)
        size = upto - self._held_from
        self._emit(held[:size])
        self._held = [held[size:]] if held[size:] else []
        self._held_from += size
        return held[size:]

    def _at_end(self) -> ValueEnd:
        scan, closer = self._scan, self._closer
        self._settle(rule=closer is not None and (scan.complete or not closer.missing))
        place, unclosed = self._end or self._best, self._unclosed
        if place is not None and unclosed is not None and place.rank is _Rank.RULE and place.key:
            place = unclosed
        if place is not None and (scan.complete or self._end or self._stopped_at_tags(closer)):
            return self._finish(place)
        self._release(scan.offset)
        return ValueEnd.CUT

    def _stopped_at_tags(self, closer: _Closer | None) -> bool:
        """Whether a text that was cut can have ended with the call, and not in what it shows."""
        latest = self._latest
        if latest is None or latest.rank is _Rank.INSIDE:
            return False
        tail = "".join(self._held)[latest.end - self._held_from :]
        for tag in (self._marks.call_end, self._marks.region_end):
            tail = tail.replace(tag, "") if tag else tail
        return closer is not None or not tail.strip(SPACE)

    def _finish(self, place: _Place) -> ValueEnd:
        self._release(place.start)
        held = "".join(self._held)
        self._scan.back(held[place.end - place.start :])
        return ValueEnd.CLOSED if place.end > place.start else ValueEnd.UNCLOSED
