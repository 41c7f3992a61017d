"""Kimi's calls: a name and a JSON object between control tokens; K3 has tags instead."""

import json
from collections.abc import Sequence
from typing import Any

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

_SECTION = "<|tool_calls_section_begin|>"
_SECTION_END = "<|tool_calls_section_end|>"
_CALL = "<|tool_call_begin|>"
_CALL_END = "<|tool_call_end|>"
_ARGUMENTS = "<|tool_call_argument_begin|>"
_STOPS = markers_of(_CALL_END, _SECTION_END)


def _read_section(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read the calls of a section; what a model writes before the first says nothing."""
    yield from scan.space()
    empty = yield from scan.at_any(_STOPS)
    before = None if empty else (yield from scan.upto(_CALL, MAX_HEAD))
    if before is None:
        raise NotACall("it holds no call" if scan.char else NOT_WHOLE)
    if "<|" in before:
        # Whatever it is, it was no mere word.
        scan.back(before + _CALL)
        raise NotACall("it holds no call")
    yield from _read_calls(scan, calls)


def _read_calls(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read `functions.NAME:INDEX`, the arguments, and the calls that follow."""
    while True:
        head = yield from scan.upto(_ARGUMENTS, MAX_HEAD)
        if head is None:
            raise NotACall(NOT_WHOLE)
        own_id = head.strip()
        name, _, index = own_id.rpartition(":")
        name = name if index.isdigit() else own_id
        calls.open(name if calls.offers(name) else name.removeprefix("functions."), own_id)
        yield from json_arguments(scan, calls, _STOPS)
        if not (yield from scan.accept(_CALL)):
            return


def _spell(calls: Sequence[tuple[str, Any]]) -> str:
    written = (
        f"{_CALL}functions.{name}:{number}{_ARGUMENTS}"
        f"{json.dumps(arguments, ensure_ascii=False)}{_CALL_END}"
        for number, (name, arguments) in enumerate(calls)
    )
    return f"{_SECTION}{''.join(written)}{_SECTION_END}"


KIMI_K2 = Notation(
    "kimi_k2",
    Form((f"{_CALL}functions.{{name}}:0{_ARGUMENTS}", _CALL_END), region=(_SECTION, _SECTION_END)),
    {_SECTION: _read_section, _CALL: _read_calls},
    spell=_spell,
)

_REGION, _REGION_END = "<|open|>tools<|sep|>", "<|close|>tools<|sep|>"
_TAGS = Tags(
    call="<|open|>call",
    call_end="<|close|>call<|sep|>",
    param="<|open|>argument",
    param_end="<|close|>argument<|sep|>",
    region=_REGION,
    region_end=_REGION_END,
    head_end="<|sep|>",
    named_by="tool",
    keyed_by="key",
    typed_by="type",
    whole=("<|open|>json", "<|close|>json<|sep|>"),
)

KIMI_K3 = Notation(
    "kimi_k3",
    Form(
        (
            '<|open|>call tool="{name}"<|sep|><|open|>json<|sep|>',
            "<|close|>json<|sep|><|close|>call<|sep|>",
        ),
        region=(_REGION, _REGION_END),
    ),
    tag_starts(_TAGS),
    answers=("<|open|>response<|sep|>",),
)
