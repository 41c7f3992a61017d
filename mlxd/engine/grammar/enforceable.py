"""The part of a schema that can be enforced: what a compiler refuses, left out where it stands.

People do not choose the schemas of the tools that they plug in, and one keyword of one of them must
not take the grammar away from all the others.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlxd.engine.grammar.json_schemas import Fault, Path, ReadSchema, Schema
from mlxd.engine.grammar.schema_keywords import holder

Check = Callable[[Schema], str]
"""Why a schema can't be compiled; empty if it can."""


class Deadline:
    """Seconds of this thread's work after which no smaller place is looked for.

    The thread's own and not the wall's: what is enforced must not depend on the machine's load.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.thread_time() + seconds

    @property
    def passed(self) -> bool:
        return time.thread_time() > self._end


@dataclass(frozen=True)
class Checks:
    """`whole` is about a schema as it is used, `part` about one of its parts on its own.

    `least` is what the whole is at least.
    """

    whole: Check
    part: Check
    deadline: Deadline
    least: Mapping[str, Any] = field(default_factory=dict)


def enforceable(read: ReadSchema, checks: Checks) -> ReadSchema:
    """`read` without what can't be compiled: keywords, else properties, else all of it."""
    if not checks.deadline.passed:
        if not (reason := checks.whole(read.schema)):
            return read
        found = _Search(read, checks).result()
        if found is not None:
            return found
    else:
        reason = "it takes too long to find what of it can be enforced"
    return ReadSchema(dict(checks.least), (*read.faults, Fault((), reason)))


class _OutOfTime(Exception):
    pass


class _Search:
    """Looks for what is at fault in one schema."""

    def __init__(self, read: ReadSchema, checks: Checks) -> None:
        self._read = read
        self._checks = checks
        self._faults = list(read.faults)
        self._definitions: Schema = {}

    def result(self) -> ReadSchema | None:
        """The schema without its faults; None where they are not found."""
        root = {key: value for key, value in self._read.schema.items() if key != "$defs"}
        try:
            # First what needs no other part to be judged: definitions may need each other.
            self._definitions = {
                name: self._plain(body, self._read.definitions[name])
                for name, body in self._read.schema.get("$defs", {}).items()
            }
            root = self._plain(root, self._read.path)
            for name, body in self._definitions.items():
                self._definitions[name] = self._deep(
                    body, self._read.definitions[name], self._in_part
                )
            root = self._deep(root, self._read.path, self._in_whole)
        except _OutOfTime:
            return None
        if self._in_whole(root):
            return None
        return ReadSchema(self._rooted(root), tuple(dict.fromkeys(self._faults)))

    def _rooted(self, schema: Schema) -> Schema:
        return {**schema, "$defs": self._definitions} if self._definitions else schema

    def _in_part(self, schema: Any) -> str:
        if self._checks.deadline.passed:
            raise _OutOfTime
        return self._checks.part(self._rooted(schema)) if isinstance(schema, dict) else ""

    def _in_whole(self, schema: Any) -> str:
        if self._checks.deadline.passed:
            raise _OutOfTime
        return self._checks.whole(self._rooted({**schema, **self._checks.least}))

    def _plain(self, schema: Any, path: Path) -> Any:
        """`schema` without keywords that are at fault whatever its parts are."""
        if not isinstance(schema, dict):
            return schema
        plain = {key: value for key, value in schema.items() if _stands_alone(key, value)}
        faulty = set[str]()
        if self._in_part(plain):
            faulty = plain.keys() - self._kept(plain, path, self._in_part).keys()
        return {
            key: _with_parts(key, value, self._plain, (*path, key))
            for key, value in schema.items()
            if key not in faulty
        }

    def _deep(self, schema: Any, path: Path, check: Check) -> Any:
        """`schema` without what is at fault in it or in its parts."""
        if not isinstance(schema, dict) or not check(schema):
            return schema
        schema = {
            key: _with_parts(key, value, self._deep_part, (*path, key))
            for key, value in schema.items()
        }
        return self._kept(schema, path, check) if check(schema) else schema

    def _deep_part(self, schema: Any, path: Path) -> Any:
        return self._deep(schema, path, self._in_part)

    def _kept(self, schema: Schema, path: Path, check: Check) -> Schema:
        """The keywords that can be compiled with those before them."""
        kept: Schema = {}
        for key in sorted(schema, key=_rank):
            value, place = schema[key], (*path, key)
            reason = check({**kept, key: value})
            if not reason:
                kept[key] = value
            elif key in ("properties", "patternProperties"):
                kept[key] = self._kept_names(value, place, _among(kept, key, check))
            else:
                self._faults.append(Fault(place, reason))
                if key == "required":
                    described = schema.get("properties", {})
                    names = [name for name in value if name in described]
                    kept |= {} if check({**kept, key: names}) else {key: names}
        return kept

    def _kept_names(self, named: Schema, path: Path, check: Check) -> Schema:
        """The schemas by name that can be compiled with those before them."""
        kept: Schema = {}
        for name, schema in named.items():
            found = self._deep(schema, (*path, name), _among(kept, name, check))
            if reason := check({**kept, name: found}):
                self._faults.append(Fault((*path, name), reason))
                found = {}
            if not check({**kept, name: found}):
                kept[name] = found
        return kept


def _among(others: Schema, name: str, check: Check) -> Check:
    """`check` for what stands under a name beside others."""
    return lambda part: check({**others, name: part})


def _rank(key: str) -> int:
    """What other keywords are about goes first, and what is about others last."""
    return {"type": 0, "properties": 1, "required": 3}.get(key, 2)


def _stands_alone(key: str, value: Any) -> bool:
    return key != "$ref" and holder(key, value) is None


def _with_parts(key: str, value: Any, change: Callable[[Any, Path], Any], path: Path) -> Any:
    """The value of a keyword with each schema in it changed."""
    match holder(key, value):
        case "map":
            return {name: change(each, (*path, name)) for name, each in value.items()}
        case "list":
            return [change(each, (*path, str(number))) for number, each in enumerate(value)]
        case "single":
            return change(value, path)
    return value
