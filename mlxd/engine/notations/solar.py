"""Solar's calls: an id, a name and a JSON object between control tokens."""

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.calls import (
    MAX_HEAD,
    NOT_WHOLE,
    Calls,
    NotACall,
    json_arguments,
    offered_name,
)
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of

_REGION, _REGION_END = "<|tool_calls|>", "<|calls|>"
_CALL, _CALL_END = "<|tool_call:begin|>", "<|tool_call:end|>"
_NAME, _ARGUMENTS = "<|tool_call:name|>", "<|tool_call:args|>"


def _read_region(scan: Scanner, calls: Calls) -> Steps[None]:
    yield from scan.space()
    if not (yield from scan.accept(_CALL)):
        raise NotACall("it holds no call" if scan.char else NOT_WHOLE)
    yield from _read_calls(scan, calls)


def _read_calls(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read a call and those that follow."""
    while True:
        own_id = yield from scan.upto(_NAME, MAX_HEAD)
        if own_id is None or "<" in own_id:
            raise NotACall("it names no tool" if own_id else NOT_WHOLE)
        name = yield from offered_name(scan, calls, "<")
        if not (yield from scan.accept(_ARGUMENTS)):
            raise NotACall("it has no arguments" if scan.char else NOT_WHOLE)
        calls.open(name, own_id.strip())
        yield from json_arguments(scan, calls, markers_of(_CALL_END, _REGION_END))
        if not (yield from scan.accept(_CALL)):
            return


SOLAR = Notation(
    "solar",
    # Each call is to have an id of its own, which a grammar can't draw: they are told apart later.
    Form(
        (f"{_CALL}call000000{_NAME}{{name}}{_ARGUMENTS}", _CALL_END), region=(_REGION, _REGION_END)
    ),
    {_REGION: _read_region, _CALL: _read_calls},
    signs=(_CALL,),
)
