"""MiniMax's calls: tags with the names in attributes; M3 names its arguments by the tags."""

import re
from dataclasses import dataclass, field

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
from mlxd.engine.notations.reading.schema import ANY, ObjectWriter, typed
from mlxd.engine.notations.reading.tags import Tags, argument, known_kinds, tag_starts

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
_TAG = re.compile(rf"{re.escape(_Z)}<(/?)([^<>/]+)>")
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
    key = key.strip()
    kinds = known_kinds(calls, key, unknown=ANY, untyped=ANY)
    opening, closing = f"{_Z}<{key}>", f"{_Z}</{key}>"
    if kinds[0] in ("string", "null"):
        scan.forget()
        value = argument(calls, members, key, kinds)
        closed = yield from scan.pour(markers_of(closing), value.feed)
        if closed:
            value.close()
        return bool(closed)
    parts: list[str] = []
    depth = 1
    while True:
        tag = yield from scan.pour(markers_of(opening, closing), parts.append)
        depth += 1 if tag == opening else -1
        if not tag or not depth:
            break
        parts.append(tag)
    if not tag:
        if scan.was_cut:
            members.member(key)("".join(parts))
            return False
        raise Broken
    scan.forget()
    text = "".join(parts)
    nested = _nested(text)
    value = argument(calls, members, key, kinds if nested is None else ANY)
    value.feed(text if nested is None else nested)
    value.close()
    return True


@dataclass
class _Element:
    """A tag that is open: where its text begins, and where what was not looked at does."""

    name: str
    start: int
    at: int
    children: list[tuple[str, str]] = field(default_factory=list)
    mixed: bool = False
    """It has text beside tags, which is no object then but a text."""

    def json(self) -> str | None:
        """An object of its children, or an array of items; None where it is a text."""
        if self.mixed or not self.children:
            return None
        if all(name == _ITEM for name, _ in self.children):
            return f"[{', '.join(value for _, value in self.children)}]"
        written: list[str] = []
        members = ObjectWriter(written.append, lambda _: None)
        for name, value in self.children:
            members.member(name)(value)
        members.end()
        return "".join(written)


def _nested(text: str) -> str | None:
    """JSON of a value that is written as tags of its own; None where it is a text."""
    stack = [_Element("", 0, 0)]
    for tag in _TAG.finditer(text):
        element, (closes, name) = stack[-1], tag.groups()
        opens_or_has_tags = not closes or element.children
        if opens_or_has_tags and text[element.at : tag.start()].strip():
            element.mixed = True
        if not closes:
            stack.append(_Element(name, tag.end(), tag.end()))
            continue
        if name != element.name or len(stack) == 1:
            return None
        stack.pop()
        stack[-1].at = tag.end()
        if len(stack) > _DEPTH:
            stack[-1].mixed = True
            continue
        value = element.json() or typed(text[element.start : tag.start()], ANY)
        stack[-1].children.append((name.strip(), value))
    root = stack[0]
    return root.json() if len(stack) == 1 and not text[root.at :].strip() else None


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
