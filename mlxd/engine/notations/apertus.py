"""Apertus' calls: an array of objects that have the tool's name as their only key."""

import re
from functools import partial

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.calls import (
    NOT_WHOLE,
    Calls,
    NotACall,
    all_stops,
    json_arguments,
    offered_name,
)
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of

_NAMED = re.compile(r'\{\s*"([^"{}]+)"\s*:\s*\{')
_START, _END = "<|tools_prefix|>", "<|tools_suffix|>"


def _begins_call(calls: Calls, text: str) -> bool:
    found = _NAMED.match(text)
    return found is not None and calls.offers(found[1])


def _read_calls(scan: Scanner, calls: Calls) -> Steps[None]:
    yield from scan.space()
    yield from scan.accept("[")
    while True:
        yield from scan.space()
        if not (yield from scan.accept("{")):
            raise NotACall("it holds no call" if scan.char else NOT_WHOLE)
        yield from scan.space()
        yield from scan.accept('"')
        name = yield from offered_name(scan, calls, '"')
        scan.take(1)
        yield from scan.space()
        if not (yield from scan.accept(":")):
            raise NotACall("it has no arguments" if scan.char else NOT_WHOLE)
        calls.open(name)
        begins = partial(_begins_call, calls)
        yield from json_arguments(scan, calls, markers_of("}"), next_call=begins)
        if not (yield from scan.accept(",")) and scan.char != "{":
            break
    yield from all_stops(scan, markers_of("]", _END))


APERTUS = Notation(
    "apertus",
    Form(('{{"{name}": ', "}}"), region=(_START + "[", "]" + _END), between=", "),
    {_START: _read_calls},
    signs=(_START,),
)
