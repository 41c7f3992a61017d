"""Llama 3's calls: bare JSON, or JSON behind one control token; Functionary's, by recipient."""

from functools import partial

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.calls import (
    NOT_OFFERED,
    NOT_WHOLE,
    Calls,
    NotACall,
    json_arguments,
)
from mlxd.engine.notations.reading.json_calls import (
    EITHER_KEY,
    JsonSurroundings,
    bare_calls,
    json_calls,
)
from mlxd.engine.notations.reading.scanner import Scanner, Steps

_PYTHON_TAG = "<|python_tag|>"

LLAMA3_JSON = Notation(
    "llama3_json",
    Form(('{{"name": "{name}", "parameters": ', "}}"), single=True),
    {_PYTHON_TAG: partial(json_calls, around=JsonSurroundings())},
    bare=partial(bare_calls, keys=EITHER_KEY),
    bare_lines=True,
    signs=(_PYTHON_TAG, '{"name": function name, "parameters":'),
)

_TO, _ALL = ">>>", "all"


def _read_message(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read a call from the tool's name on, which is alone in its line; what is for all is text."""
    name = ""
    while (char := scan.char or (yield from scan.wait())) != "\n":
        if not char or not (calls.may_be(name + char) or _ALL.startswith(name + char)):
            raise NotACall(NOT_OFFERED if char else NOT_WHOLE, remark=False)
        name += scan.take(1)
    scan.take(1)
    if name == _ALL and not calls.offers(name):
        scan.mark()
        return
    yield from scan.space()
    if scan.char != "{":
        raise NotACall("it has no arguments" if scan.char else NOT_WHOLE)
    calls.open(name)
    yield from json_arguments(scan, calls)


# The prompt ends with what begins the first message of an answer.
FUNCTIONARY_V3 = Notation(
    "functionary_v3",
    Form(("{name}\n", ""), between=_TO),
    {_TO: _read_message},
    bare=_read_message,
    begins=(),
    lead=f"{_ALL}\n",
    signs=(">>>${recipient}",),
)
