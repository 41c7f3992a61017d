"""DeepSeek's calls: a name and a JSON object between control tokens; nested tags from V3.2 on."""

from dataclasses import replace

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


_PARAM_END = "</｜DSML｜parameter>"
_V32_REGION, _V4_REGION = "function_calls", "tool_calls"


def _dsml(region: str) -> Tags:
    """The tags of V3.2 and V4, which differ in the region around calls."""
    return Tags(
        call="<｜DSML｜invoke",
        call_end="</｜DSML｜invoke>",
        param="<｜DSML｜parameter",
        param_end=_PARAM_END,
        region=f"<｜DSML｜{region}>",
        region_end=f"</｜DSML｜{region}>",
        named_by="name",
        keyed_by="name",
        typed_by="string",
    )


def _dsml_form(region: str) -> Form:
    return Form(
        ('<｜DSML｜invoke name="{name}">\n', "</｜DSML｜invoke>\n"),
        region=(f"<｜DSML｜{region}>\n", f"</｜DSML｜{region}>"),
        json=False,
        member=('<｜DSML｜parameter name="{key}" string="{string}">', _PARAM_END + "\n"),
        forbidden=("</｜DSML｜invoke>",),
    )


DEEPSEEK = Notation(
    "deepseek",
    Form((f"{_CALL}{{name}}{_SEPARATOR}", _CALL_END), region=(_SECTION, _SECTION_END)),
    {
        _SECTION: _read_section,
        _CALL: _read_calls,
        **tag_starts(_dsml(_V4_REGION)),
        **tag_starts(_dsml(_V32_REGION)),
    },
    signs=(_SECTION,),
)
DEEPSEEK_V32 = replace(
    DEEPSEEK, name="deepseek_v32", form=_dsml_form(_V32_REGION), signs=("｜DSML｜",)
)
DEEPSEEK_V4 = replace(DEEPSEEK_V32, name="deepseek_v4", form=_dsml_form(_V4_REGION))
