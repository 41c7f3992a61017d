"""Calls as nested tags: a tag that names the tool around a tag for each argument.

Values are plain text that the tool's schema types; `plain_values` says where one ends.
"""

import re
from dataclasses import dataclass
from functools import cached_property, partial

from mlxd.engine.notations.reading.calls import (
    MAX_HEAD,
    NOT_WHOLE,
    Broken,
    CallReader,
    Calls,
    NotACall,
    all_stops,
    json_arguments,
    next_tag,
    spill,
)
from mlxd.engine.notations.reading.plain_values import (
    PlainValue,
    ValueEnd,
    ValueMarks,
    attribute,
)
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of
from mlxd.engine.notations.reading.schema import (
    ANY,
    STRING,
    WRAPPERS,
    ArgumentWriter,
    Kinds,
    Lines,
    ObjectWriter,
    ValueWriter,
    WrappedWriter,
    written_as_json,
)


@dataclass(frozen=True)
class Tags:
    """One notation of this kind.

    `call` and `param` begin the opening tags, `head_end` ends them. `named_by`, `keyed_by` and
    `typed_by` are attributes; without one the tag's own text is the name. `region` and `region_end`
    stand around all calls. `lines` says whether values stand on lines of their own. `unknown` types
    arguments that the schema does not know, `untyped` those that it gives no type.
    """

    call: str
    call_end: str
    param: str
    param_end: str
    region: str = ""
    region_end: str = ""
    head_end: str = ">"
    named_by: str = ""
    keyed_by: str = ""
    typed_by: str = ""
    lines: Lines = ""
    cdata: bool = False
    whole: tuple[str, str] | None = None
    """The tag that holds all arguments as one JSON object, if there is such a tag."""
    unknown: Kinds = STRING
    untyped: Kinds = STRING

    @cached_property
    def marks(self) -> ValueMarks:
        """What stands around values."""
        return ValueMarks(
            closing=self.param_end,
            member=(self.param, self.head_end),
            call=self.call,
            named=rf"[^<>]*{re.escape(self.head_end)}[ \t\r\n]*",
            call_end=self.call_end,
            region=self.region,
            region_end=self.region_end,
            keyed_by=self.keyed_by,
            whole=self.whole[0] if self.whole else "",
            lines=self.lines == "own",
        )


def tagged_calls(scan: Scanner, calls: Calls, tags: Tags, *, in_region: bool = True) -> Steps[None]:
    """Read calls up to the end of their region, or of the text that can be calls."""
    found = False
    while True:
        yield from scan.space()
        if (yield from scan.accept(tags.call)):
            if (yield from _Call(scan, calls, tags, in_region=in_region).read()):
                return
            found = True
            continue
        if not found:
            raise NotACall("it holds no call" if scan.char else NOT_WHOLE)
        if tags.region_end:
            yield from all_stops(scan, markers_of(tags.region_end))
        return


def tagged_call(scan: Scanner, calls: Calls, tags: Tags) -> Steps[None]:
    """Read calls from behind the beginning of the first one's tag."""
    if not (yield from _Call(scan, calls, tags, in_region=False).read()):
        yield from scan.space()
        if (yield from scan.starts(tags.call)):
            yield from tagged_calls(scan, calls, tags, in_region=False)
        elif tags.region_end:
            yield from all_stops(scan, markers_of(tags.region_end))


def tag_starts(tags: Tags) -> dict[str, CallReader]:
    """The opening markers with their readers: a call's, and that of the region around calls."""
    starts: dict[str, CallReader] = {tags.call: partial(tagged_call, tags=tags)}
    if tags.region:
        starts[tags.region] = partial(tagged_calls, tags=tags)
    return starts


class _Call:
    """Reads one call."""

    def __init__(self, scan: Scanner, calls: Calls, tags: Tags, *, in_region: bool) -> None:
        self._scan = scan
        self._calls = calls
        self._tags = tags
        self._in_region = in_region
        self._object = ObjectWriter(calls.add, calls.remark)
        whole = tags.whole[0] if tags.whole else ""
        self._markers = markers_of(tags.param, tags.call_end, tags.region_end, whole)

    def read(self) -> Steps[bool]:
        """Read behind the beginning of its tag; true when its region, or the text, is over."""
        tags = self._tags
        head = yield from self._head(tags.call)
        if head is None:
            raise NotACall(NOT_WHOLE)
        self._calls.open(_named(head, tags.call, tags.named_by))
        try:
            return (yield from self._members())
        except Broken:
            stops = markers_of(tags.call_end, tags.region_end)
            return (yield from spill(self._scan, self._calls, stops)) in ("", tags.region_end)

    def _head(self, opening: str) -> Steps[str | None]:
        """The rest of an opening tag, with its beginning; None when it is not whole."""
        head = yield from self._scan.head(self._tags.head_end, MAX_HEAD)
        return None if head is None else opening + head

    def _members(self) -> Steps[bool]:
        tags = self._tags
        while True:
            tag = yield from next_tag(
                self._scan, self._calls, self._markers, surplus=tags.param_end
            )
            if tag == tags.param:
                if (yield from self._argument()):
                    return True
            elif tags.whole and tag == tags.whole[0]:
                return (yield from self._all_arguments(tags.whole))
            else:
                return self._end(tag) if tag else self._at_end()

    def _end(self, marker: str) -> bool:
        if marker != self._tags.call_end:
            self._calls.remark("tool call repaired: a missing closing tag")
        self._object.end()
        self._calls.close()
        return marker == self._tags.region_end

    def _at_end(self) -> bool:
        if self._scan.complete:
            self._end("")
            return True
        self._calls.cut()
        return True

    def _all_arguments(self, whole: tuple[str, str]) -> Steps[bool]:
        opening, closing = whole
        head = yield from self._head(opening)
        if head is None or self._object.names:
            raise Broken
        self._scan.forget()
        tags = self._tags
        # Only its quote tells that a call in a string is none of the string's.
        following = markers_of(f'{closing}{tags.call_end}{tags.call} {tags.named_by}="')
        yield from json_arguments(self._scan, self._calls, markers_of(closing), seams=following)
        yield from all_stops(self._scan, markers_of(tags.call_end))
        return False

    def _argument(self) -> Steps[bool]:
        """Read one argument; true when the call ended with it."""
        tags = self._tags
        head = yield from self._head(tags.param)
        key = _named(head, tags.param, tags.keyed_by) if head else ""
        if not key:
            if head is None and self._scan.was_cut:
                return self._at_end()
            raise Broken
        self._scan.forget()
        return (yield from self._value(key, head or ""))

    def _kinds(self, key: str, tag: str) -> Kinds:
        if self._tags.typed_by:
            declared = attribute(tag, self._tags.typed_by)
            if declared == "false":
                # It names no type, so that the schema's are among what it may be.
                return written_as_json(known_kinds(self._calls, key, unknown=ANY, untyped=ANY))
            if declared:
                return STRING if declared in ("string", "true") else ANY
        return known_kinds(self._calls, key, unknown=self._tags.unknown, untyped=self._tags.untyped)

    def _value(self, key: str, head: str) -> Steps[bool]:
        """Read the value of an argument; true when the call ended with it."""
        tags, schema = self._tags, self._calls.schema
        value = argument(self._calls, self._object, key, self._kinds(key, head), lines=tags.lines)
        if tags.cdata and (yield from self._cdata(value)):
            return not self._calls.is_open
        plain = PlainValue(
            self._scan,
            tags.marks,
            value.feed,
            known=(lambda _: True) if tags.typed_by else schema.knows,
            owed=schema.required - self._object.names,
            in_region=self._in_region,
        )
        end = yield from plain.read()
        return not ended(self._calls, value, end)

    def _cdata(self, value: ArgumentWriter) -> Steps[bool]:
        """Read a value in a CDATA block; false when it is in none."""
        scan = self._scan
        space = yield from scan.space()
        if not (yield from scan.accept("<![CDATA[")):
            value.feed(space)
            return False
        if not (yield from scan.pour(markers_of("]]>"), value.feed)):
            self._calls.cut()
            return True
        value.close()
        yield from next_tag(scan, self._calls, markers_of(self._tags.param_end))
        return True


def argument(
    calls: Calls, members: ObjectWriter, key: str, kinds: Kinds, *, lines: Lines = ""
) -> ArgumentWriter:
    """What writes an argument of the open call."""
    if key in WRAPPERS and not calls.schema.knows(key):
        return WrappedWriter(members, calls.schema, key, kinds)
    return ValueWriter(members.member(key), kinds, lines=lines)


def ended(calls: Calls, value: ArgumentWriter, end: ValueEnd) -> bool:
    """Close a plain value, or the call where the text ended in it; false for the latter."""
    if end is ValueEnd.CUT:
        if isinstance(value, WrappedWriter):
            # No arguments at all could be taken for a call that has none.
            value.close()
        calls.cut()
        return False
    if end is ValueEnd.UNCLOSED:
        calls.remark("tool call repaired: a missing closing tag")
    value.close()
    return True


def known_kinds(calls: Calls, key: str, *, unknown: Kinds, untyped: Kinds) -> Kinds:
    """The types of an argument of the open call."""
    kinds = calls.schema.kinds(key)
    if kinds is None:
        return unknown
    return kinds or untyped


def _named(tag: str, opening: str, named_by: str) -> str:
    return attribute(tag, named_by) if named_by else tag[len(opening) :].strip()
