"""Calls as JSON objects: `{"name": …, "arguments": {…}}`, alone, in a row or in an array.

Keys come in any order, the arguments may be an object or a string that holds one, under
`arguments` or `parameters`, and all of it may stand in a `function` object.
"""

import re
from dataclasses import dataclass

from mlxd.engine.notations.reading.calls import (
    MAX_HEAD,
    NOT_VALID,
    NOT_WHOLE,
    SURPLUS_BRACKETS,
    Calls,
    NotACall,
    all_stops,
    before_stop,
    copied,
    offered_name,
    spill,
)
from mlxd.engine.notations.reading.scanner import NONE, Markers, Scanner, Steps, markers_of
from mlxd.engine.notations.reading.strings import Emit, Outcome
from mlxd.engine.notations.reading.unquote import copy_quoted
from mlxd.engine.notations.reading.values import ValueCopy

EITHER_KEY = ("arguments", "parameters")
BARE_BEGINS = ("{", "[", "`")
"""What a call without markup can begin with."""
NOT_JSON = "it is not a call in JSON"

_DROPPED = "a member of a tool call that is no part of it was dropped"
_QUOTES = ('"', "'")
_MAX_KEY = 64
_NAME_KEYS = ("name", "function", "tool_name")
_NEXT_CALL = re.compile(r"""\{\s*["'](?:name|function|type|id)["']\s*:""")
_IN_A_ROW = re.compile(
    r"""\{\s*(?:["'](?:id|call_id|tool_call_id|type)["']\s*:\s*["'][^"'{}]*["']\s*,\s*)*"""
    r"""["'](?:name|tool_name)["']\s*:\s*["'](?P<name>[^"'{}]+)["']\s*,\s*"""
    r"""["'](?:arguments|parameters)["']\s*:"""
)
"""A call that follows another one."""
_ID_KEYS = ("id", "call_id", "tool_call_id")
_SILENT_KEYS = ("type", "index", *_ID_KEYS)


@dataclass(frozen=True)
class JsonSurroundings:
    """What stands around JSON calls.

    `stops` end them. `bare` calls have no markup around them and must not only name an offered tool
    but have arguments that are an object, under one of `keys`.
    """

    stops: Markers = NONE
    bare: bool = False
    keys: tuple[str, ...] = EITHER_KEY


def json_calls(scan: Scanner, calls: Calls, around: JsonSurroundings) -> Steps[None]:
    """Read one call, several in a row, or an array of them."""
    yield from scan.space()
    array = yield from scan.accept("[")
    found = False
    while True:
        yield from scan.space()
        if scan.char == "{":
            call = _Call(scan, calls, around)
            if not (yield from call.read()) and not call.followed:
                yield from all_stops(scan, around.stops)
                return
            found = True
        elif found and scan.char in (",", ";"):
            scan.take(1)
        else:
            break
    if not found:
        raise NotACall(NOT_JSON if scan.char else NOT_WHOLE, remark=not around.bare)
    if array and (yield from scan.accept("]")):
        scan.mark()
    yield from _end(scan, calls, around.stops)


def bare_calls(
    scan: Scanner, calls: Calls, *, keys: tuple[str, ...] = ("arguments",)
) -> Steps[None]:
    """Read JSON calls without any markup, or in a code fence."""
    stops = NONE
    if (yield from scan.accept("```")):
        kind = yield from scan.upto("\n", 16)
        if kind is None or kind.strip() not in ("", "json", "tool_call"):
            raise NotACall("it is code", remark=False)
        stops = markers_of("```")
    yield from json_calls(scan, calls, JsonSurroundings(stops, bare=True, keys=keys))


def _end(scan: Scanner, calls: Calls, stops: Markers) -> Steps[None]:
    """Take the stop, and closing brackets before it that close nothing."""
    yield from all_stops(scan, stops)
    surplus = False
    while stops.texts and scan.char in ("}", "]"):
        scan.take(1)
        yield from scan.space()
        surplus = True
    if surplus and (yield from all_stops(scan, stops)):
        calls.remark(SURPLUS_BRACKETS)


class _Call:
    """Reads one object; the call is opened as soon as its name is known."""

    def __init__(self, scan: Scanner, calls: Calls, around: JsonSurroundings) -> None:
        self._scan = scan
        self._calls = calls
        self._around = around
        self._name = ""
        self._id = ""
        self._early: list[str] | None = None
        """Arguments that came before the name."""
        self._settled = False
        """The arguments were read."""
        self._strange = False
        """Members were read that are no part of a call."""
        self._python = False
        """It is a dictionary of Python."""
        self.followed = False
        """It is broken, and the next call of its row follows."""

    def read(self) -> Steps[bool]:
        """True when the call is whole; false when all up to a stop or a call became part of it."""
        if not (yield from self._members(nested=False)):
            return False
        scan, calls = self._scan, self._calls
        if not calls.is_open:
            raise self._not_a_call("it has no arguments" if self._name else "it names no tool")
        early = self._settled and self._strange and (yield from self._closes_again())
        unread = scan.since_mark()
        if early or (not self._settled and self._strange):
            # Its arguments may well be there; running the tool without them is no repair.
            calls.remark(NOT_VALID)
            calls.add(unread)
        elif not self._settled:
            calls.add("{}")
        elif self._strange:
            calls.remark(_DROPPED)
        calls.close()
        return True

    def _not_a_call(self, reason: str) -> NotACall:
        return NotACall(reason, remark=not self._around.bare)

    def _members(self, *, nested: bool) -> Steps[bool]:
        """Read the members of the object that comes next."""
        scan = self._scan
        scan.take(1)
        while True:
            yield from scan.space()
            match scan.char:
                case "}":
                    scan.take(1)
                    return True
                case ",":
                    scan.take(1)
                case '"' | "'":
                    if not (yield from self._member(nested=nested)):
                        return False
                case _:
                    return (yield from self._broken())

    def _member(self, *, nested: bool) -> Steps[bool]:
        scan = self._scan
        quote = scan.take(1)
        self._python = self._python or quote == "'"
        key = yield from scan.upto(quote, _MAX_KEY)
        yield from scan.space()
        if key is None or not (yield from scan.accept(":")):
            return (yield from self._broken(inside=True))
        yield from scan.space()
        opened = self._calls.is_open
        if key in _NAME_KEYS and not self._name and scan.char in _QUOTES:
            yield from self._read_name()
        elif key == "function" and not nested and not opened and scan.char == "{":
            return (yield from self._members(nested=True))
        elif key in self._around.keys and not self._settled and self._early is None:
            return (yield from self._arguments())
        elif key in _ID_KEYS and not opened and scan.char in _QUOTES:
            self._id = (yield from scan.upto(scan.take(1), MAX_HEAD)) or ""
        else:
            return (yield from self._skip(key))
        return True

    def _read_name(self) -> Steps[None]:
        quote = self._scan.take(1)
        try:
            self._name = yield from offered_name(self._scan, self._calls, quote)
        except NotACall as error:
            raise self._not_a_call(error.reason) from None
        if not (yield from self._scan.accept(quote)):
            raise self._not_a_call(NOT_WHOLE)
        if self._early is not None:
            self._open()
            self._calls.add("".join(self._early))
            self._settled = True
        elif not (self._around.bare or self._strange):
            # Bare JSON may be an answer that only looks like a call: it needs arguments too.
            self._open()

    def _open(self) -> None:
        self._calls.open(self._name, self._id)
        self._scan.mark()

    def _arguments(self) -> Steps[bool]:
        if self._around.bare and self._scan.char != "{":
            raise self._not_a_call(NOT_JSON)
        if self._name and not self._calls.is_open:
            self._open()
        emit: Emit = self._calls.add
        if not self._calls.is_open:
            self._early = []
            emit = self._early.append
        else:
            self._scan.forget()
        outcome = yield from self._copy(emit)
        if outcome is Outcome.WHOLE:
            if self._calls.is_open:
                self._settled = True
                self._scan.mark()
            return True
        if not self._calls.is_open:
            raise self._not_a_call(NOT_JSON if outcome is Outcome.BROKEN else NOT_WHOLE)
        if self.followed:
            self._calls.remark(NOT_VALID)
            self._calls.close()
        elif outcome is Outcome.BROKEN:
            yield from self._spill()
        else:
            self._calls.cut()
        return False

    def _begins_call(self, text: str) -> bool:
        """Whether the next call of the row begins so."""
        following = _IN_A_ROW.match(text)
        return following is not None and self._calls.offers(following["name"])

    def _copy(self, emit: Emit) -> Steps[Outcome]:
        """Copy the arguments in whatever form they come."""
        scan, calls = self._scan, self._calls
        if scan.char in _QUOTES:
            outcome, plain = yield from copy_quoted(scan, emit)
            if not plain:
                calls.remark("tool call arguments are not a JSON object")
            return outcome
        if scan.char == "{":
            copy = ValueCopy(
                *(scan, emit),
                stops=self._around.stops,
                python=self._python,
                next_call=self._begins_call,
            )
            outcome = yield from copied(scan, calls, copy, self._around.stops)
            calls.repaired(copy.repairs)
            self.followed = copy.followed
            return outcome
        value: list[str] = []
        outcome = yield from ValueCopy(scan, value.append, stops=self._around.stops).copy()
        text = "".join(value)
        if outcome is Outcome.WHOLE and text == "null":
            text = "{}"
        elif outcome is Outcome.WHOLE:
            calls.remark("tool call arguments are not a JSON object")
        emit(text)
        return outcome

    def _skip(self, key: str) -> Steps[bool]:
        """Take a member that is no part of a call."""
        if self._around.bare and key not in _SILENT_KEYS:
            raise self._not_a_call(NOT_JSON)
        copy = ValueCopy(self._scan, lambda _: None, stops=self._around.stops)
        if (yield from copy.copy()) is not Outcome.WHOLE:
            return (yield from self._broken(inside=True))
        self._strange = self._strange or key not in _SILENT_KEYS
        return True

    def _broken(self, *, inside: bool = False) -> Steps[bool]:
        """What comes next is no member, or `inside` one: decide what to make of what was read."""
        scan, calls = self._scan, self._calls
        yield from scan.wait()
        if not calls.is_open:
            raise self._not_a_call(NOT_JSON if scan.char else NOT_WHOLE)
        at_stop = yield from scan.at_any(self._around.stops)
        at_end = at_stop or (not scan.char and scan.complete)
        if self._settled and not inside and not at_end and (yield from self._goes_on()):
            # Closing the object here would run the tool with a part of what was written.
            yield from self._spill()
            return False
        if self._settled or (at_end and not inside):
            calls.remark(_DROPPED if inside else "tool call repaired: missing closing brackets")
            return True
        if not scan.char or (inside and scan.was_cut):
            calls.cut()
        else:
            yield from self._spill()
        return False

    def _spill(self) -> Steps[None]:
        """Close the call with what is broken of it, up to a stop or the next call of the row."""
        scan, calls, stops = self._scan, self._calls, self._around.stops
        ends = markers_of("{", *(stops if stops.texts else calls.openers).texts)
        tail = ""

        def emit(text: str) -> None:
            nonlocal tail
            tail = (tail + text)[-_MAX_KEY:]
            calls.add(text)

        emit(scan.since_mark())
        while (yield from scan.pour(ends, emit, take_marker=False)) == "{":
            behind = tail.rstrip(",; \t\r\n").endswith("}")
            if behind and self._begins_call((yield from scan.wait_for(MAX_HEAD))):
                calls.remark(NOT_VALID)
                calls.close()
                self.followed = True
                return
            emit(scan.take(1))
        yield from spill(scan, calls, stops, inside=True)

    def _closes_again(self) -> Steps[bool]:
        """Whether a bracket too many says that the arguments were closed too early."""
        rest = yield from before_stop(self._scan, self._calls, self._around.stops)
        if rest.lstrip()[:1] == "}":
            return True
        self._scan.back(rest)
        return False

    def _goes_on(self) -> Steps[bool]:
        """Whether what follows the arguments is part of this call, and not the next one."""
        scan = self._scan
        if scan.char == "{" and _NEXT_CALL.match((yield from scan.wait_for(_MAX_KEY))):
            return False
        text = yield from before_stop(scan, self._calls, self._around.stops)
        scan.back(text)
        return bool(text.strip())
