"""MiniMax's calls: tags with the names in attributes; M3 names its arguments by the tags."""

import json
import re
from typing import Any

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.calls import (
    MAX_HEAD,
    NOT_WHOLE,
    Broken,
    Calls,
    NotACall,
    all_stops,
    next_tag,
    spill,
)
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of
from mlxd.engine.notations.reading.schema import ANY, ObjectWriter, ValueWriter, typed
from mlxd.engine.notations.reading.tags import Tags, known_kinds, tag_starts

_TAGS = Tags(
    call="<invoke name=",
    call_end="</invoke>",
    param="<parameter name=",
    param_end="</parameter>",
    region="<minimax:tool_call>",
    region_end="</minimax:tool_call>",
    named_by="name",
    keyed_by="name",
)

MINIMAX_M2 = Notation(
    "minimax_m2",
    Form(
        ('<invoke name="{name}">\n', "</invoke>\n"),
        region=("<minimax:tool_call>\n", "</minimax:tool_call>"),
        json=False,
        member=('<parameter name="{key}">', "</parameter>\n"),
        marks=_TAGS.marks,
    ),
    tag_starts(_TAGS),
)

_Z = "]<]minimax[>["
"""Stands before every tag of M3, so that none can be mistaken for a value's own."""
_REGION, _REGION_END = f"{_Z}<tool_call>", f"{_Z}</tool_call>"
_CALL, _CALL_END = f"{_Z}<invoke name=", f"{_Z}</invoke>"
_CHILD = re.compile(rf"\s*{re.escape(_Z)}<([^<>/]+)>(.*?){re.escape(_Z)}</\1>\s*", re.DOTALL)
_ITEM = "item"
_DEPTH = 16


def _read_m3_calls(scan: Scanner, calls: Calls) -> Steps[None]:
    found = False
    while True:
        yield from scan.space()
        if not (yield from scan.accept(_CALL)):
            break
        yield from _read_m3_call(scan, calls)
        found = True
    if not found:
        raise NotACall("it holds no call" if scan.char else NOT_WHOLE)
    yield from all_stops(scan, markers_of(_REGION_END))


def _read_m3_call(scan: Scanner, calls: Calls) -> Steps[None]:
    """Read a call from behind the beginning of its tag."""
    head = yield from scan.upto(">", MAX_HEAD)
    if head is None:
        raise NotACall(NOT_WHOLE)
    calls.open(head.strip(" \"'"))
    members = ObjectWriter(calls.add, calls.remark)
    tags = markers_of(_CALL_END, _REGION_END, f"{_Z}<")
    try:
        while (tag := (yield from next_tag(scan, calls, tags))) == f"{_Z}<":
            if not (yield from _read_m3_argument(scan, calls, members)):
                calls.cut()
                return
    except Broken:
        yield from spill(scan, calls, markers_of(_CALL_END, _REGION_END))
        return
    if not tag and not scan.complete:
        calls.cut()
        return
    if tag != _CALL_END:
        calls.remark("tool call repaired: a missing closing tag")
    members.end()
    calls.close()


def _read_m3_argument(scan: Scanner, calls: Calls, members: ObjectWriter) -> Steps[bool]:
    """Read an argument from its name on; false when the text ended in it."""
    key = yield from scan.upto(">", MAX_HEAD)
    if key is None or "<" in key:
        if scan.was_cut:
            return False
        raise Broken
    scan.forget()
    key = key.strip()
    emit = members.member(key)
    kinds = known_kinds(calls, key, unknown=ANY, untyped=ANY)
    end = markers_of(f"{_Z}</{key}>")
    if kinds[0] in ("string", "null"):
        value = ValueWriter(emit, kinds)
        closed = yield from scan.pour(end, value.feed)
        if closed:
            value.close()
        return bool(closed)
    text: list[str] = []
    if not (yield from scan.pour(end, text.append)):
        return False
    nested = _nested("".join(text), _DEPTH)
    plain = isinstance(nested, str)
    emit(typed(nested, kinds) if plain else json.dumps(nested, ensure_ascii=False))
    return True


def _nested(text: str, depth: int) -> Any:
    """A value that may be written as tags of its own: an object, or an array of items."""
    children: list[tuple[str, Any]] = []
    at = 0
    while depth and (child := _CHILD.match(text, at)):
        children.append((child[1].strip(), _nested(child[2], depth - 1)))
        at = child.end()
    if not children or text[at:].strip():
        return text
    members = [
        (name, json.loads(typed(value, ANY)) if isinstance(value, str) else value)
        for name, value in children
    ]
    if all(name == _ITEM for name, _ in members):
        return [value for _, value in members]
    return dict(members)


MINIMAX_M3 = Notation(
    "minimax_m3",
    Form(
        (f'{_CALL}"{{name}}">', f"{_CALL_END}\n"),
        region=(f"{_REGION}\n", _REGION_END),
        json=False,
        member=(f"{_Z}<{{key}}>", f"{_Z}</{{key}}>"),
        forbidden=(_Z,),
    ),
    {_REGION: _read_m3_calls, _CALL: _read_m3_call},
    signs=(_Z,),
)
