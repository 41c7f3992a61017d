"""Mistral's calls: an array of JSON, or a name and JSON between control tokens."""

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.calls import (
    MAX_HEAD,
    NOT_WHOLE,
    Calls,
    NotACall,
    json_arguments,
    offered_name,
)
from mlxd.engine.notations.reading.json_calls import JsonSurroundings, json_calls
from mlxd.engine.notations.reading.scanner import Markers, Scanner, Steps, markers_of

_CALLS = "[TOOL_CALLS]"
_ARGUMENTS = "[ARGS]"
_ID = "[CALL_ID]"


def _read_calls(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read an array of JSON calls, or `NAME[ARGS]{…}`, which can repeat."""
    yield from scan.space()
    if scan.char in ("[", "{"):
        yield from json_calls(scan, calls, JsonSurroundings())
        return
    yield from _read_named(scan, calls)
    while scan.char and calls.may_be(scan.char):
        try:
            yield from _read_named(scan, calls)
        except NotACall:
            # It was the beginning of a text.
            return


def _read_named(scan: Scanner, calls: Calls) -> Steps[None]:
    name = yield from offered_name(scan, calls, "[{ \n")
    own_id: str | None = ""
    yield from scan.space()
    if (yield from scan.accept(_ID)):
        own_id = yield from scan.upto(_ARGUMENTS, MAX_HEAD)
    elif scan.char != "{" and not (yield from scan.accept(_ARGUMENTS)):
        own_id = None
    if own_id is None:
        raise NotACall("it has no arguments" if scan.char else NOT_WHOLE)
    calls.open(name, own_id.strip())
    yield from json_arguments(scan, calls, seams=_seams(calls))


def _seams(calls: Calls) -> Markers:
    """What begins another call also inside a string, where no bare quote can stand."""
    named = (f'{_CALLS}{name}{_ARGUMENTS}{{"' for name in calls.names)
    return markers_of(f'{_CALLS}[{{"', *named)


MISTRAL = Notation(
    "mistral",
    Form(('{{"name": "{name}", "arguments": ', "}}"), region=(_CALLS + "[", "]"), between=", "),
    {_CALLS: _read_calls},
    more=(_ID,),
    # Models of the second form have a token for what stands between a name and its arguments.
    form_with=(_ARGUMENTS, Form((f"{_CALLS}{{name}}{_ARGUMENTS}", ""))),
)
