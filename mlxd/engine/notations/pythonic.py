"""Calls as Python: `[weather(city="Oslo", days=2), time()]`, in a region or alone."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.calls import (
    NOT_WHOLE,
    Calls,
    NotACall,
    all_stops,
    offered_name,
    spill,
)
from mlxd.engine.notations.reading.scanner import (
    NONE,
    Markers,
    Scanner,
    Steps,
    advance,
    markers_of,
)
from mlxd.engine.notations.reading.schema import ObjectWriter
from mlxd.engine.notations.reading.strings import Emit, Outcome
from mlxd.engine.notations.reading.values import PYTHON, ValueCopy

_START, _END = "<|tool_call_start|>", "<|tool_call_end|>"
MAX_ECHO = 4096
"""Characters behind calls that wait because they may be the same calls again."""
_NAME = re.compile(r"\w*")
_ARGUMENT = replace(PYTHON, bare=re.compile(r"[\w .+-]+"), delimiters=(",", ")", "]", "}"))
_NO_KEYWORDS = "its arguments have no names"


def _read_calls(scan: Scanner, calls: Calls, end: str = _END) -> Steps[None]:
    """Read calls in lists or one a line, up to the end of their region."""
    stops = markers_of(end)
    if not (yield from _read_list(scan, calls, stops)):
        return
    while True:
        if (yield from all_stops(scan, stops)):
            if end == _END:
                yield from _drop_echo(scan, calls)
            return
        if scan.char != "[" and not (scan.char and calls.may_be(scan.char)):
            return
        try:
            if not (yield from _read_list(scan, calls, stops)):
                return
        except NotACall:
            # It was the beginning of a text.
            return


def _drop_echo(scan: Scanner, calls: Calls) -> Steps[None]:
    """Drop the list that was just read where the model writes it once more, up to its end."""
    begun = yield from scan.wait_for(2)
    may_be = begun[:1] == "[" and calls.may_be(begun[1:])
    echo = (yield from scan.upto(_END, MAX_ECHO)) if may_be else None
    if echo is None:
        return
    again = Scanner()
    again.feed(echo)
    again.end(complete=True)
    found = calls.fork(again)
    with suppress(NotACall):
        advance(_read_list(again, found, NONE))
    size = len(found.closed)
    if again.rest().strip() or not size or found.closed != calls.closed[-size:]:
        scan.back(echo + _END)
        return
    calls.remark("calls that were written twice were dropped")
    yield from scan.space()
    scan.mark()


def _read_list(scan: Scanner, calls: Calls, stops: Markers) -> Steps[bool]:
    """Read one call or a list of them; false when nothing can follow."""
    yield from scan.space()
    listed = yield from scan.accept("[")
    while True:
        yield from scan.space()
        if not (yield from _Call(scan, calls, stops).read()):
            return False
        yield from scan.space()
        if not (yield from scan.accept(",")):
            break
    if listed and (yield from scan.accept("]")):
        scan.mark()
    return True


def _read_bare_calls(scan: Scanner, calls: Calls) -> Steps[None]:
    try:
        yield from _read_calls(scan, calls, "")
    except NotACall as error:
        # A list without any markup may well be a text.
        raise NotACall(error.reason, remark=False) from None


class _Call:
    """Reads one call."""

    def __init__(self, scan: Scanner, calls: Calls, stops: Markers) -> None:
        self._scan = scan
        self._calls = calls
        self._stops = stops
        self._object = ObjectWriter(calls.add, calls.remark)

    def read(self) -> Steps[bool]:
        """True when the call is whole, false when nothing can follow it."""
        scan = self._scan
        name = yield from offered_name(scan, self._calls, "( ")
        yield from scan.space()
        if not (yield from scan.accept("(")):
            raise NotACall("it has no arguments" if scan.char else NOT_WHOLE)
        while True:
            yield from scan.space()
            if scan.char == ")":
                return self._end(name)
            key = yield from scan.run(_NAME)
            yield from scan.space()
            if not key or not (yield from scan.accept("=")):
                return (yield from self._broken(_NO_KEYWORDS))
            if not self._calls.is_open:
                self._calls.open(name)
            scan.forget()
            if not (yield from self._value(self._object.member(key))):
                return False
            scan.mark()
            yield from scan.space()
            if scan.char != ")" and not (yield from scan.accept(",")):
                return (yield from self._unfinished())

    def _value(self, emit: Emit) -> Steps[bool]:
        copy = ValueCopy(self._scan, emit, style=_ARGUMENT, stops=self._stops)
        match (yield from copy.copy()):
            case Outcome.WHOLE:
                return True
            case Outcome.BROKEN:
                yield from spill(self._scan, self._calls, self._stops)
            case Outcome.CUT:
                self._calls.cut()
        return False

    def _end(self, name: str) -> bool:
        self._scan.take(1)
        if not self._calls.is_open:
            self._calls.open(name)
        self._object.end()
        self._calls.close()
        return True

    def _unfinished(self) -> Steps[bool]:
        """A value is whole and no comma or bracket follows it."""
        scan = self._scan
        at_stop = yield from scan.at_any(self._stops)
        if at_stop or (not scan.char and scan.complete):
            self._calls.remark("tool call repaired: missing closing brackets")
            self._object.end()
            self._calls.close()
            return True
        return (yield from self._broken(_NO_KEYWORDS))

    def _broken(self, reason: str) -> Steps[bool]:
        if not self._calls.is_open:
            raise NotACall(reason if self._scan.char else NOT_WHOLE)
        if self._scan.char:
            yield from spill(self._scan, self._calls, self._stops)
        else:
            self._calls.cut()
        return False


def _spell_call(name: str, arguments: Any) -> str:
    members = arguments if isinstance(arguments, dict) else {"text": arguments}
    values = {
        key: json.dumps(value, ensure_ascii=False) if isinstance(value, str) else repr(value)
        for key, value in members.items()
    }
    return f"{name}({', '.join(f'{key}={value}' for key, value in values.items())})"


def _notation(name: str, region: tuple[str, str], between: str = ", ") -> Notation:
    def spell(calls: Sequence[tuple[str, Any]]) -> str:
        return region[0] + between.join(_spell_call(*call) for call in calls) + region[1]

    return Notation(
        name,
        Form(
            ("{name}(", ")"),
            region=region,
            between=between,
            json=False,
            member=("{key}=", ""),
            comma=", ",
            values="json",
        ),
        {_START: _read_calls},
        spell=spell,
    )


PYTHONIC = _notation("pythonic", (_START + "[", "]" + _END))
# Llama 3.2 and 4, ToolACE, Gemma 3: the list is all of the answer.
BARE_PYTHONIC = replace(
    _notation("bare_pythonic", ("[", "]")),
    starts={"<|python_start|>": partial(_read_calls, end="<|python_end|>")},
    bare=_read_bare_calls,
    more=("<|python_end|>",),
    signs=("[func_name1(params_name1=", "<|python_start|>"),
)
OLMO3 = replace(
    _notation("olmo3", ("<function_calls>\n", "\n</function_calls>"), "\n"),
    starts={"<function_calls>": partial(_read_calls, end="</function_calls>")},
    signs=("<function_calls>",),
)
