"""DeepSeek's calls: a name and a JSON object between control tokens, or nested tags."""

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.calls import (
    MAX_HEAD,
    NOT_WHOLE,
    Calls,
    NotACall,
    json_arguments,
)
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of
from mlxd.engine.notations.reading.tags import Tags, tag_starts

_SECTION = "<｜tool▁calls▁begin｜>"
_SECTION_END = "<｜tool▁calls▁end｜>"
_CALL = "<｜tool▁call▁begin｜>"
_CALL_END = "<｜tool▁call▁end｜>"
_SEPARATOR = "<｜tool▁sep｜>"
_FENCE = "```"


def _read_section(scan: Scanner, calls: Calls) -> Steps[None]:
    yield from scan.space()
    if not (yield from scan.accept(_CALL)):
        raise NotACall("it holds no call" if scan.char else NOT_WHOLE)
    yield from _read_calls(scan, calls)


def _read_calls(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read a call and those that follow: the name, then JSON, which older models put in a fence."""
    while True:
        head = yield from scan.upto(_SEPARATOR, MAX_HEAD)
        if head is None:
            raise NotACall(NOT_WHOLE)
        name: str | None = head.strip()
        # The older form has the kind of the call there, and the name on the next line.
        fenced = name == "function" and not calls.offers("function")
        if fenced:
            name = yield from scan.upto("\n", MAX_HEAD)
        if name is None:
            raise NotACall(NOT_WHOLE)
        calls.open(name.strip())
        yield from scan.space()
        if (yield from scan.accept(_FENCE)):
            yield from scan.accept("json")
            fenced = True
        stops = markers_of(_CALL_END, _SECTION_END, _FENCE if fenced else "")
        yield from json_arguments(scan, calls, stops)
        if not (yield from scan.accept(_CALL)):
            return


_DSML_REGION = "<｜DSML｜function_calls>"
_DSML = Tags(
    call="<｜DSML｜invoke",
    call_end="</｜DSML｜invoke>",
    param="<｜DSML｜parameter",
    param_end="</｜DSML｜parameter>",
    region=_DSML_REGION,
    region_end="</｜DSML｜function_calls>",
    named_by="name",
    keyed_by="name",
    typed_by="string",
)

DEEPSEEK = Notation(
    "deepseek",
    Form((f"{_CALL}{{name}}{_SEPARATOR}", _CALL_END), region=(_SECTION, _SECTION_END)),
    {
        _SECTION: _read_section,
        _CALL: _read_calls,
        **tag_starts(_DSML),
    },
    signs=(_SECTION,),
)
