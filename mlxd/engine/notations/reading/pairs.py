"""Calls as a tool's name and pairs of tags for keys and values, as GLM writes them."""

import re
from dataclasses import dataclass
from functools import cached_property

from mlxd.engine.notations.reading.calls import (
    MAX_HEAD,
    NOT_WHOLE,
    Broken,
    Calls,
    NotACall,
    all_stops,
    json_arguments,
    next_tag,
    offered_name,
    spill,
)
from mlxd.engine.notations.reading.plain_values import PlainValue, ValueMarks
from mlxd.engine.notations.reading.scanner import Scanner, Steps, markers_of
from mlxd.engine.notations.reading.schema import ANY, ArgumentWriter, ObjectWriter, ValueWriter
from mlxd.engine.notations.reading.tags import argument, ended, known_kinds


@dataclass(frozen=True)
class Pairs:
    """One notation of this kind.

    `prefix` and `suffix` stand in each tag around `arg_key` and `arg_value`, `behind_name` is a tag
    that ends the tool's name, and `region` opens a region around all calls.
    """

    end: str = "</tool_call>"
    prefix: str = ""
    suffix: str = ""
    behind_name: str = ""
    region: str = ""

    def tag(self, name: str) -> str:
        return f"<{self.prefix}{name}{self.suffix}>"

    def closing(self, name: str) -> str:
        return f"</{self.prefix}{name}{self.suffix}>"

    @property
    def call(self) -> str:
        """What opens a call."""
        return self.end.replace("/", "", 1)

    @property
    def region_end(self) -> str:
        """What closes the region around calls."""
        return self.region.replace("<", "</")

    @cached_property
    def marks(self) -> ValueMarks:
        """What stands around values."""
        return ValueMarks(
            closing=self.closing("arg_value"),
            member=(self.tag("arg_key"), self.closing("arg_key")),
            call=self.call,
            named=rf"[ \t\r\n]*[^ \t\r\n<]+[ \t\r\n]*{self._behind_name}",
            call_end=self.end,
            region=self.region,
            region_end=self.region_end,
            value=self.tag("arg_value"),
        )

    @property
    def _behind_name(self) -> str:
        return rf"({re.escape(self.behind_name)}[ \t\r\n]*)?" if self.behind_name else ""


def paired_calls(scan: Scanner, calls: Calls, pairs: Pairs) -> Steps[None]:
    """Read calls up to the end of their region."""
    found = False
    while True:
        yield from scan.space()
        if not (yield from scan.accept(pairs.call)):
            break
        yield from paired_call(scan, calls, pairs, in_region=True)
        found = True
    if not found:
        raise NotACall("it holds no call" if scan.char else NOT_WHOLE)
    yield from all_stops(scan, markers_of(pairs.region_end))


def paired_call(
    scan: Scanner, calls: Calls, pairs: Pairs, *, in_region: bool = False
) -> Steps[None]:
    """Read a call from its name on; the arguments may also be one JSON object."""
    stops = markers_of(pairs.end)
    name = yield from offered_name(scan, calls, " \t\r\n<{")
    yield from scan.space()
    if pairs.behind_name and (yield from scan.accept(pairs.behind_name)):
        yield from scan.space()
    if scan.char == "{":
        calls.open(name)
        yield from json_arguments(scan, calls, stops)
        return
    if not scan.char and not scan.complete:
        raise NotACall(NOT_WHOLE)
    if scan.char and not (yield from scan.at_any(markers_of(pairs.tag("arg_key"), pairs.end))):
        raise NotACall("it has no arguments")
    calls.open(name)
    try:
        if (yield from _arguments(scan, calls, pairs, in_region=in_region)):
            yield from all_stops(scan, stops)
    except Broken:
        yield from spill(scan, calls, stops)


def _arguments(scan: Scanner, calls: Calls, pairs: Pairs, *, in_region: bool) -> Steps[bool]:
    """Read the pairs and close the call; false when the text ended in them."""
    members = ObjectWriter(calls.add, calls.remark)
    tags = markers_of(pairs.tag("arg_key"), pairs.end, pairs.region_end)
    while True:
        tag = yield from next_tag(scan, calls, tags, surplus=pairs.closing("arg_value"))
        if tag == pairs.tag("arg_key"):
            if not (yield from _pair(scan, calls, pairs, members, in_region=in_region)):
                return False
        elif tag or scan.complete:
            if tag != pairs.end:
                calls.remark("tool call repaired: a missing closing tag")
            members.end()
            calls.close()
            return True
        else:
            calls.cut()
            return False


def _pair(
    scan: Scanner, calls: Calls, pairs: Pairs, members: ObjectWriter, *, in_region: bool
) -> Steps[bool]:
    """Read a key and its value; false when the text, and the call, ended in them."""
    key = yield from scan.head(pairs.closing("arg_key"), MAX_HEAD)
    torn = key is None
    if torn:
        key = yield from scan.head(pairs.tag("arg_value"), MAX_HEAD)
    else:
        yield from _gap(scan)
    if key is None or not (torn or (yield from scan.accept(pairs.tag("arg_value")))):
        if scan.was_cut:
            calls.cut()
            return False
        raise Broken
    scan.forget()
    key = key.strip()
    kinds = known_kinds(calls, key, unknown=ANY, untyped=ANY)
    known, owed = calls.schema.knows, calls.schema.required - members.names
    if torn and calls.schema.kinds(key) is None:
        calls.remark("tool call repaired: an argument without a whole name was dropped")
        value: ArgumentWriter = ValueWriter(lambda _: None, kinds)
    else:
        value = argument(calls, members, key, kinds)
    plain = PlainValue(
        *(scan, pairs.marks, value.feed), known=known, owed=owed, in_region=in_region
    )
    return ended(calls, value, (yield from plain.read()))


def _gap(scan: Scanner) -> Steps[None]:
    """Take white space; some templates write a line break as a backslash and an n."""
    yield from scan.space()
    while (yield from scan.accept("\\n")):
        yield from scan.space()
