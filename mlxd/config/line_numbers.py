"""On which line of a TOML text a key stands; the parser of the standard library does not say."""

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from mlxd.config.problems import KeyPath


def key_lines(text: str) -> dict[KeyPath, int]:
    """The line of every key and table of a valid text, where it is written first.

    Statements are found by parsing: line after line is added until what there is is valid.
    """
    lines: dict[KeyPath, int] = {}
    header, statement, start = "", "", 1
    for number, line in enumerate(text.split("\n"), start=1):
        continues = bool(statement)
        start = start if continues else number
        statement += line + "\n"
        values = None if continues and not _may_end(line) else _parsed(header + statement)
        if values is None:
            continue
        if statement.lstrip().startswith("["):
            header = statement
        for path in _paths(values):
            lines.setdefault(path, start)
        statement = ""
    return lines


def _may_end(line: str) -> bool:
    """Whether a value of several lines can end here; trying each line would take too long."""
    return "#" in line or line.rstrip().endswith(("]", "}", '"""', "'''"))


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except ValueError:
        return None


def _paths(values: Mapping[str, Any], above: KeyPath = ()) -> Iterator[KeyPath]:
    for key, value in values.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from _paths(value, (*above, key))
