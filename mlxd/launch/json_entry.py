"""An entry in a JSON text, put there and taken out without touching any other byte.

Only plain JSON is understood. With comments or trailing commas a text is left alone: what a comment
is about, and so where it belongs, only its writer knows.
"""

import copy
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from mlxd.launch.edit import LeftAlone, Value, is_ours, newline_of

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()
INDENT = "  "


class _Child(NamedTuple):
    """A member of an object or an item of an array: where it, its value and its end are."""

    key: str | None
    start: int
    value: int
    end: int


@dataclass(frozen=True)
class JsonEntry:
    """`value` under the keys of `path`; with `item`, one more item of the list there.

    `frame` is what a new file holds besides.
    """

    path: tuple[str, ...]
    value: Value
    item: bool = False
    frame: Value | None = None

    @property
    def _way(self) -> tuple[str, ...]:
        """The keys down to the object or list that holds the entry."""
        return self.path if self.item else self.path[:-1]

    def entry(self, text: str) -> object:
        if not text.strip():
            return None
        holder = _at(_parsed(text), self._way)
        if self.item:
            named = holder if isinstance(holder, list) else ()
            return next((each for each in named if _is_named(each)), None)
        return holder.get(self.path[-1]) if isinstance(holder, dict) else None

    def put(self, text: str) -> str:
        if not text.strip():
            whole = self._added(copy.deepcopy(self.frame))
            return json.dumps(whole, indent=INDENT, ensure_ascii=False) + "\n"
        before = _parsed(text)
        start = _after_space(text, 0)
        value: object = self.value
        found, name = before, None if self.item else self.path[-1]
        for depth, key in enumerate(self._way):
            if isinstance(found, dict) and key not in found:
                name, value = key, self._nested(depth + 1)
                break
            found, start = _step(text, found, start, key)
        if not isinstance(found, list if name is None else dict):
            raise LeftAlone(f"has something else in the place of {'.'.join(self.path)}")
        new = _inserted(text, start, name, value)
        if _parsed(new) != self._added(copy.deepcopy(before)):
            raise LeftAlone("can't be changed without changing more than one entry")
        return new

    def drop(self, text: str, before: str) -> str:
        if self.entry(text) is None:
            return text
        earlier = _parsed(before) if before.strip() else None
        starts, found = [_after_space(text, 0)], _parsed(text)
        for key in self._way:
            found, start = _step(text, found, starts[-1], key)
            starts.append(start)
        keys = [*self._way, None if self.item else self.path[-1]]
        depth = len(starts) - 1
        # What was made to hold the entry goes with it, unless it holds more by now.
        while (
            depth
            and len(_children(text, starts[depth])[0]) == 1
            and _at(earlier, self._way[:depth]) is None
        ):
            depth -= 1
        return _removed(text, starts[depth], keys[depth], _gap(before, earlier, self._way[:depth]))

    def _nested(self, depth: int) -> object:
        """The value within all that is to hold it from this depth on."""
        value: object = [self.value] if self.item else {self.path[-1]: self.value}
        for key in reversed(self._way[depth:]):
            value = {key: value}
        return value

    def _added(self, whole: Any) -> Any:
        """The parsed text with the entry."""
        if whole is None:
            return self._nested(0)
        holder = whole
        for depth, key in enumerate(self._way):
            if key not in holder:
                holder[key] = self._nested(depth + 1)
                return whole
            holder = holder[key]
        if self.item:
            holder.append(self.value)
        else:
            holder[self.path[-1]] = self.value
        return whole


def _parsed(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        reason = "it has comments, or is broken" if isinstance(error, ValueError) else "too deep"
        raise LeftAlone(f"is no plain JSON ({reason})") from None


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise LeftAlone("has a key twice in one object")
    return made


def _is_named(value: object) -> bool:
    return isinstance(value, dict) and is_ours(value.get("name"))


def _at(found: Any, keys: Sequence[str]) -> Any:
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _step(text: str, found: Any, start: int, key: str) -> tuple[Any, int]:
    """The member of an object, as a value and as a place in the text."""
    if not isinstance(found, dict):
        raise LeftAlone(f"has something else than an object around {key}")
    child = next(each for each in _children(text, start)[0] if each.key == key)
    return found[key], child.value


def _children(text: str, start: int) -> tuple[list[_Child], int]:
    """What the object or array that starts there holds, and where its closing bracket is."""
    children: list[_Child] = []
    at = _after_space(text, start + 1)
    while text[at] not in "}]":
        first, key = at, None
        if text[start] == "{":
            key, at = _DECODER.raw_decode(text, at)
            at = _after_space(text, _after_space(text, at) + 1)
        value = at
        at = _DECODER.raw_decode(text, at)[1]
        children.append(_Child(key, first, value, at))
        at = _after_space(text, at)
        if text[at] == ",":
            at = _after_space(text, at + 1)
    return children, at


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _inserted(text: str, start: int, key: str | None, value: object) -> str:
    """The text with one more child at the end of the object or array that starts there."""
    children, _ = _children(text, start)
    newline, unit = newline_of(text), _unit(text)
    if children:
        # Behind the bracket, or behind the comma of the child before.
        ahead = text.index(",", children[-2].end) if len(children) > 1 else start
        lead, tail, position = text[ahead + 1 : children[-1].start], "", children[-1].end
        inside = lead.rpartition("\n")[2] if "\n" in lead else None
    elif "\n" in text.strip():
        line = text[text.rfind("\n", 0, start) + 1 : start + 1]
        around = line[: len(line) - len(line.lstrip())]
        lead, tail, inside = f"{newline}{around}{unit}", f"{newline}{around}", around + unit
        position = start + 1
    else:
        lead, tail, inside, position = "", "", None, start + 1
    name = "" if key is None else f"{json.dumps(key, ensure_ascii=False)}: "
    written = name + _written(value, unit, inside, newline)
    return f"{text[:position]}{',' if children else ''}{lead}{written}{tail}{text[position:]}"


def _written(value: object, unit: str, inside: str | None, newline: str) -> str:
    """A value as the lines around it are: each on its own, behind `inside`, or all on one."""
    if inside is None:
        return json.dumps(value, ensure_ascii=False)
    lines = json.dumps(value, indent=unit, ensure_ascii=False).split("\n")
    return f"{newline}{inside}".join(lines)


def _unit(text: str) -> str:
    """What a text indents by."""
    found = re.search(r"\n([ \t]+)\S", text)
    return found[1] if found else INDENT


def _removed(text: str, start: int, key: str | None, gap: str) -> str:
    """The text without a child; `gap` is what an object or array holds that is empty then."""
    children, close = _children(text, start)
    number = next(
        number
        for number, child in enumerate(children)
        if (child.key == key if key is not None else _is_named(_value(text, child)))
    )
    if len(children) == 1:
        return f"{text[: start + 1]}{gap}{text[close:]}"
    if number:
        return text[: children[number - 1].end] + text[children[number].end :]
    return text[: children[0].start] + text[children[1].start :]


def _value(text: str, child: _Child) -> object:
    return _DECODER.raw_decode(text, child.value)[0]


def _gap(before: str, earlier: Any, way: Sequence[str]) -> str:
    """What stood between the brackets of the empty object or list that was there before."""
    if _at(earlier, way) not in ({}, []):
        return ""
    start, found = _after_space(before, 0), earlier
    for key in way:
        found, start = _step(before, found, start, key)
    return before[start + 1 : _children(before, start)[1]]
