"""Calls as an array of JSON in a region of its own, as Cohere, Granite and others write them."""

import re
from functools import partial

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.any_calls import TOOL_CALL
from mlxd.engine.notations.reading.calls import (
    NOT_OFFERED,
    CallReader,
    Calls,
    NotACall,
    all_stops,
)
from mlxd.engine.notations.reading.json_calls import JsonSurroundings, json_calls
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of

_DIRECTLY_LENGTH = 64
_CALL = ('{{"name": "{name}", "arguments": ', "}}")


def _reader(end: str = "") -> CallReader:
    return partial(json_calls, around=JsonSurroundings(markers_of(end)))


def _read_lines(scan: Scanner, calls: Calls, end: str) -> Steps[None]:
    """Read one call a line; a line that is none costs only itself."""
    around, before = JsonSurroundings(markers_of(end)), calls.count
    ends, dropped = markers_of("\n", end), False
    while True:
        try:
            yield from json_calls(scan, calls, around)
        except NotACall as error:
            if error.reason == NOT_OFFERED:
                raise
            # What is taken here is text until another call opens, or the region ends.
            yield from scan.pour(ends, lambda _: None, take_marker=False)
            yield from scan.space()
            dropped = True
            if scan.char == "{":
                continue
            if calls.count == before or not (yield from all_stops(scan, around.stops)):
                raise
        if dropped:
            calls.remark("tool call repaired: a line that is no call was dropped")
        return


_DIRECTLY = re.compile(r'\[\s*\{\s*"tool_name"\s*:\s*"directly[-_]answer"')


def _read_action(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read a list in a fence; one that says that no tool is needed is dropped."""
    yield from scan.space()
    if not (yield from scan.accept("```json")):
        raise NotACall("it holds no call", remark=False)
    yield from scan.space()
    if _DIRECTLY.match((yield from scan.wait_for(_DIRECTLY_LENGTH))):
        yield from scan.pour(markers_of("```"), lambda _: None)
        scan.mark()
        return
    yield from json_calls(scan, calls, JsonSurroundings(markers_of("```")))


def _listed(start: str, end: str = "") -> Form:
    return Form(_CALL, region=(f"{start}[", f"]{end}"), between=", ")


COHERE = Notation(
    "cohere",
    # Ids are numbers that begin anew in each turn; what comes back is told apart by its order.
    Form(
        ('{{"tool_call_id": "0", "tool_name": "{name}", "parameters": ', "}}"),
        region=("<|START_ACTION|>[", "]<|END_ACTION|>"),
        between=", ",
    ),
    {"<|START_ACTION|>": _reader("<|END_ACTION|>")},
    signs=("<|START_ACTION|>",),
)
GRANITE = Notation(
    "granite",
    _listed("<|tool_call|>"),
    # The oldest models write the same in a plain tag.
    {"<|tool_call|>": _reader("<|/tool_call|>"), **TOOL_CALL},
    signs=("<|tool_call|>",),
    more=("<|/tool_call|>",),
)
NEMOTRON = Notation(
    "nemotron",
    _listed("<TOOLCALL>", "</TOOLCALL>"),
    {"<TOOLCALL>": _reader("</TOOLCALL>")},
    signs=("<TOOLCALL>",),
)
HUNYUAN = Notation(
    "hunyuan",
    _listed("<tool_calls>", "</tool_calls>"),
    {"<tool_calls>": _reader("</tool_calls>"), **TOOL_CALL},
    signs=("<tool_calls>[", "<tool_calls>"),
)
MINIMAX_M1 = Notation(
    "minimax_m1",
    Form(_CALL, region=("<tool_calls>\n", "\n</tool_calls>"), between="\n"),
    {"<tool_calls>": partial(_read_lines, end="</tool_calls>"), **TOOL_CALL},
    signs=("<tool_calls>",),
)
PHI4 = Notation(
    "phi4",
    _listed("functools"),
    # With its bracket, since the word alone is the name of a Python module.
    {
        "functools[": _reader("]"),
        "<|tool_call|>": _reader("<|/tool_call|>"),
    },
    signs=("functools[", "<|/tool|>"),
    more=("<|/tool_call|>",),
)
GRANITE_20B = Notation(
    "granite_20b",
    Form(("<function_call> " + _CALL[0], _CALL[1]), between="\n"),
    {"<function_call>": _reader()},
    signs=("<function_call>",),
)
INTERNLM2 = Notation(
    "internlm2",
    Form(
        ('<|action_start|><|plugin|>{{"name": "{name}", "parameters": ', "}}<|action_end|>"),
        single=True,
    ),
    {"<|action_start|><|plugin|>": _reader("<|action_end|>")},
    tokens=("<|action_start|>", "<|plugin|>"),
    signs=("<|action_start|><|plugin|>",),
)
COMMAND_R_PLUS = Notation(
    "command_r_plus",
    Form(
        ('{{"tool_name": "{name}", "parameters": ', "}}"),
        region=("Action:\n```json\n[", "]\n```"),
        between=", ",
    ),
    {"Action:": _read_action},
    signs=("`directly-answer`",),
    # Asked in this form a model answers nothing to read: it calls `directly-answer`, and would
    # say its answer in a second prompt.
    only_read=True,
)
GIGACHAT = Notation(
    "gigachat",
    Form(("<|function_call|>" + _CALL[0], _CALL[1]), single=True),
    {"<|function_call|>": _reader(), "function call<|role_sep|>": _reader()},
    signs=("<|function_call|>", "function call<|role_sep|>"),
)
