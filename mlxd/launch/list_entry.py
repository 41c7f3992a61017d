"""An entry at the end of a list in a TOML or YAML text; comments and all other lines stay.

Where lines begin and end is guessed from how they look, and every guess is tried: the text that
comes out has to parse to what went in, with the entry or without it.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import tomli_w
import yaml

from mlxd.launch.edit import LeftAlone, Value, is_ours, newline_of


class _Parsed(NamedTuple):
    """What a text says: all but the list, and what is in the list, in no order."""

    rest: Any
    entries: list[Any]

    def changed(self, entries: Iterable[Any]) -> "_Parsed":
        """The same with another list."""
        return _Parsed(self.rest, sorted(entries, key=repr))

    def ours(self, name: str) -> object:
        """The entry whose `name` says that it is ours."""
        return next((each for each in self.entries if _is_named(each, name)), None)

    def less(self, name: str) -> "_Parsed":
        """The same without that entry."""
        return self.changed(each for each in self.entries if not _is_named(each, name))


@dataclass(frozen=True)
class TomlEntry:
    """One more table `[[key]]`."""

    key: str
    value: Value

    @property
    def block(self) -> str:
        """The entry as it is written."""
        return f"[[{self.key}]]\n{tomli_w.dumps(self.value)}"

    def entry(self, text: str) -> object:
        return self._parsed(text).ours("name")

    def put(self, text: str) -> str:
        newline = newline_of(text)
        table = self.block.replace("\n", newline)
        # An array of one line can't be gone on with by tables.
        inline = ", ".join(tomli_w.dumps(self.value).splitlines())
        array = rf"(?m)^([ \t]*{self.key}[ \t]*=[ \t]*\[)(?=([ \t]*\])?)"
        written = re.sub(
            array,
            lambda found: f"{found[1]}{{ {inline} }}{'' if found[2] is not None else ', '}",
            text,
            count=1,
        )
        attempts = (_ended(text, newline) + (newline if text else "") + table, written)
        parsed = self._parsed(text)
        return _checked(attempts, self._parsed, parsed.changed([*parsed.entries, self.value]))

    def drop(self, text: str, before: str) -> str:
        parsed = self._parsed(text)
        if parsed.ours("name") is None:
            return text
        inline = (
            text[: found.start()] + text[found.end() :]
            for found in re.finditer(r"\{[^{}\n]*\bname = \"mlxd\"[^{}\n]*\}(?:, )?", text)
        )
        header = re.compile(rf"[ \t]*\[\[[ \t]*{self.key}[ \t]*\]\]")
        attempts = (*_without(text, header, re.compile(r"[ \t]*\["), before), *inline)
        return _checked(attempts, self._parsed, parsed.less("name"))

    def _parsed(self, text: str) -> _Parsed:
        try:
            whole = tomllib.loads(text)
        except (ValueError, RecursionError):
            raise LeftAlone("is no TOML that can be read") from None
        entries = whole.pop(self.key, [])
        if not isinstance(entries, list):
            raise LeftAlone(f"has something else than a list in {self.key}")
        return _Parsed(whole, []).changed(entries)


@dataclass(frozen=True)
class YamlEntry:
    """One more item of a file that is a list; `name` is the key that holds its name."""

    name: str
    value: Value

    @property
    def block(self) -> str:
        """The entry as it is written."""
        pairs = (
            f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in self.value.items()
        )
        return "- " + "\n  ".join(pairs) + "\n"

    def entry(self, text: str) -> object:
        return self._parsed(text).ours(self.name)

    def put(self, text: str) -> str:
        newline = newline_of(text)
        first = re.search(r"(?m)^( *)- ", text)
        inside = first[1] if first else ""
        item = "".join(inside + line + newline for line in self.block.splitlines())
        attempts = (_ended(text, newline) + item,)
        parsed = self._parsed(text)
        return _checked(attempts, self._parsed, parsed.changed([*parsed.entries, self.value]))

    def drop(self, text: str, before: str) -> str:
        parsed = self._parsed(text)
        if parsed.ours(self.name) is None:
            return text
        item = re.compile(r"[ \t]*- ")
        attempts = _without(text, item, item, before, blank=False)
        return _checked(attempts, self._parsed, parsed.less(self.name))

    def _parsed(self, text: str) -> _Parsed:
        try:
            entries = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError):
            raise LeftAlone("is no YAML that can be read") from None
        if not isinstance(entries, list | None):
            raise LeftAlone("is no list")
        return _Parsed(None, []).changed(entries or [])


def _is_named(entry: object, name: str) -> bool:
    return isinstance(entry, dict) and is_ours(entry.get(name))


def _ended(text: str, newline: str) -> str:
    """The text with its last line ended."""
    return text if not text or text.endswith("\n") else text + newline


def _without(
    text: str, begins: re.Pattern[str], follows: re.Pattern[str], before: str, *, blank: bool = True
) -> Iterator[str]:
    """The text without each of the runs of lines that may be the entry.

    A run ends where what `follows` begins; the comments above that stay. `blank` says that an entry
    was written behind an empty line.
    """
    lines = text.splitlines(keepends=True)
    for first, line in enumerate(lines):
        if not begins.match(line):
            continue
        later = (at for at in range(first + 1, len(lines)) if follows.match(lines[at]))
        last = next(later, len(lines))
        while last > first + 1 and lines[last - 1].lstrip()[:1] in ("", "#"):
            last -= 1
        above = first - 1 if blank and first and not lines[first - 1].strip() else first
        kept = "".join([*lines[:above], *lines[last:]])
        if last == len(lines) and before and not before.endswith("\n"):
            kept = kept.removesuffix("\n").removesuffix("\r")
        yield kept


def _checked(attempts: Iterable[str], parse: Callable[[str], _Parsed], wanted: _Parsed) -> str:
    """The first text that says what is wanted."""
    for text in attempts:
        try:
            if parse(text) == wanted:
                return text
        except LeftAlone:
            continue
    raise LeftAlone("can't be changed without changing more than one entry")
