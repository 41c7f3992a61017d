"""Apertus' calls: an array of objects that have the tool's name as their only key."""

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

_START, _END = "<|tools_prefix|>", "<|tools_suffix|>"


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
        yield from json_arguments(scan, calls, markers_of("}"))
        if not (yield from scan.accept(",")):
            break
    yield from all_stops(scan, markers_of("]", _END))


APERTUS = Notation(
    "apertus",
    Form(('{{"{name}": ', "}}"), region=(_START + "[", "]" + _END), between=", "),
    {_START: _read_calls},
    signs=(_START,),
)
