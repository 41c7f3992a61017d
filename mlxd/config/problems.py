"""What is wrong with a configuration, in words: what was expected, what came, the nearest name."""

import difflib
import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from mlxd.config.secrets import SECRETS
from mlxd.config.settings import ModelSettings, Section, Settings

KeyPath = tuple[str | int, ...]
"""A key as a path from the root; numbers count the entries of a list."""

_EXPECTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "a string",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}
_BOUNDS = {
    "greater_than_equal": ("at least", "ge"),
    "greater_than": ("more than", "gt"),
    "less_than_equal": ("at most", "le"),
    "less_than": ("less than", "lt"),
}
_LONGEST_VALUE = 60


class Problem(NamedTuple):
    """One thing to change: where, why, and what was probably meant."""

    path: KeyPath
    reason: str
    hint: str = ""


def dotted(path: Sequence[str | int]) -> str:
    """The path as TOML writes it (`models."a.b".source`), with the number of a list's entry."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + _key(part)
    return text


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name that `name` was probably meant to be, or nothing."""
    lowered = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), lowered, n=1, cutoff=0.6)
    return lowered[found[0]] if found else ""


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """A hint for a name that is not known: the nearest one, else all of them."""
    found = nearest(name, known)
    return f'Did you mean "{found}"?' if found else f"Known: {', '.join(known)}."


def problems(errors: Sequence[ErrorDetails], values: Mapping[str, Any]) -> list[Problem]:
    """Pydantic's errors about `values` in our words, one for each place."""
    found: dict[KeyPath, Problem] = {}
    for error in errors:
        if _follows_from_entries(error, errors):
            continue
        problem = _problem(error, values)
        found.setdefault(problem.path, problem)
    return list(found.values())


def _follows_from_entries(error: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Whether a list is too short only because its entries were refused themselves."""
    depth = len(error["loc"])
    return error["type"] == "too_short" and any(
        len(other["loc"]) > depth and other["loc"][:depth] == error["loc"] for other in errors
    )


def _problem(error: ErrorDetails, values: Mapping[str, Any]) -> Problem:
    # Pydantic adds names of its own to a location, such as the branches of a union.
    path, value = follow(error["loc"], values)
    kind, facts = error["type"], error.get("ctx", {})
    got = _got(path, value)
    match kind:
        case "extra_forbidden":
            return unknown_key(path)
        case "missing" | "too_long" if path[-1:] == ("reasoning_tags",):
            return Problem(path, f"expected exactly two strings{got}")
        case "missing":
            path = (*path, str(error["loc"][-1]))
            return Problem(path, "is missing", 'Name "demo", a repository, or a folder.')
        case "too_short":
            return Problem(path, f"expected at least {facts['min_length']} entry{got}")
        case "literal_error":
            return _not_a_choice(path, value, str(facts["expected"]))
        case "pattern" if error["loc"][-1] == "[key]":
            return Problem(path, f"expected {facts['expected']}")
        case "pattern":
            return Problem(path, f"expected {facts['expected']}{got}")
        case _ if kind in _BOUNDS:
            words, name = _BOUNDS[kind]
            return Problem(path, f"must be {words} {facts[name]}{got}")
        case "model_type" if path[:1] == ("models",):
            return Problem(path, f"expected a table{got}", "Write [models.<alias>] and a source.")
        case _ if kind in _EXPECTED and "template_args" in path[:-1]:
            return Problem(path, f"expected a string, a number, true or false{got}")
        case _ if kind in _EXPECTED:
            return Problem(path, f"expected {_EXPECTED[kind]}{got}")
    return Problem(path, error["msg"] + got)


def follow(loc: KeyPath, values: Mapping[str, Any]) -> tuple[KeyPath, object]:
    """The part of `loc` that stands in `values`, and what is there."""
    path: list[str | int] = []
    value: object = values
    for part in loc:
        match part, value:
            case str(), Mapping() if part in value:
                value = value[part]
            case int(), list() if part < len(value):
                value = value[part]
            case _:
                break
        path.append(part)
    return tuple(path), value


def hidden_values(
    values: Mapping[str, Any], merged: Mapping[str, Any], above: KeyPath = ()
) -> Iterator[Problem]:
    """Plain `values` of one source where another has a table, for they do not reach validation.

    They are the mistake unless validation finds that the table is.
    """
    for key, value in values.items():
        path, table = (*above, key), merged.get(key)
        if isinstance(table, Mapping) and isinstance(value, Mapping):
            yield from hidden_values(value, table, path)
        elif isinstance(table, Mapping):
            yield Problem(path, f"expected a table{_got(path, value)}")


def _got(path: KeyPath, value: object) -> str:
    """ ", got …" with the value, unless it is or may hold a secret."""
    shown = not any(path[: len(each)] == each or each[: len(path)] == path for each in SECRETS)
    return f", got {describe(value, shown=shown)}"


def describe(value: object, *, shown: bool = True) -> str:
    """A value for a message: short, as TOML writes it, its type alone if not to be `shown`."""
    match value:
        case Mapping():
            return "a table"
        case list() | tuple():
            return "a list"
        case bool() | int() | float() | str() if not shown:
            return "a string" if isinstance(value, str) else "something else"
        case int() if abs(value) >= 10**20:
            return "a very large number"
        case float():
            return repr(value)
        case bool() | int() | str():
            text = json.dumps(value, ensure_ascii=False)
            return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}…"
        case None:
            return "nothing"
    return "a date or time"


def _not_a_choice(path: KeyPath, value: object, expected: str) -> Problem:
    choices = re.findall(r"'([^']*)'", expected)
    name = value if isinstance(value, str) else ""
    if path[:1] == ("dialects",):
        return Problem(path, f"unknown dialect {describe(value)}", did_you_mean(name, choices))
    found = nearest(name, choices)
    reason = f"expected {expected.replace(chr(39), chr(34))}{_got(path, value)}"
    return Problem(path, reason, f'Did you mean "{found}"?' if found else "")


def unknown_key(path: KeyPath) -> Problem:
    """A key that does not exist, with the one that was probably meant."""
    return Problem(path, "unknown key", _meant_key(path))


def _meant_key(path: KeyPath) -> str:
    name = str(path[-1])
    known = keys_at(path[:-1])
    if nearest(name, known):
        return did_you_mean(name, known)
    elsewhere = [dotted((*parent, name)) for parent, keys in _tables() if name in keys]
    return f'Did you mean "{elsewhere[0]}"?' if elsewhere else did_you_mean(name, known)


def keys_at(path: KeyPath) -> tuple[str, ...]:
    """The keys that may stand in the table at `path`."""
    if path[:1] == ("models",):
        return tuple(ModelSettings.model_fields) if len(path) == 2 else ()
    return next((keys for parent, keys in _tables() if parent == path), ())


def _tables() -> Iterator[tuple[KeyPath, tuple[str, ...]]]:
    yield (), tuple(Settings.model_fields)
    for name, section in sections():
        yield (name,), tuple(section.model_fields)


def sections() -> Iterator[tuple[str, type[BaseModel]]]:
    """The tables of the file that are always there, by name."""
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine can reach `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def plain_keys() -> list[str]:
    """The keys of the file that stand in no table."""
    return [name for name in Settings.model_fields if name not in (*dict(sections()), "models")]


def conflicts(settings: Settings) -> Iterator[Problem]:
    """Settings that are fine alone and contradict each other; the path is of the one to change."""
    server = settings.server
    configured = f"Configured: {', '.join(settings.models) or 'no model'}."
    if not is_loopback(server.host) and not server.api_keys:
        yield Problem(
            ("server", "host"),
            f'"{server.host}" can be reached from the network: server.api_keys must not be empty',
            "Add a key, or listen on 127.0.0.1.",
        )
    if server.max_bodies < server.max_body:
        yield Problem(
            ("server", "max_bodies"),
            f"must be at least server.max_body ({server.max_body}), or a body of that size "
            "could never be received",
        )
    if settings.defaults.model and settings.defaults.model not in settings.models:
        reason = f'"{settings.defaults.model}" is not configured'
        yield Problem(("defaults", "model"), reason, configured)
    named = {name for alias, model in settings.models.items() for name in (alias, *model.aliases)}
    for deployment, target in (settings.azure.deployments or {}).items():
        if target not in named:
            path = ("azure", "deployments", deployment)
            yield Problem(path, f'"{target}" is not configured', configured)
    for dialect in sorted(set(settings.dialects)):
        if settings.dialects.count(dialect) > 1:
            yield Problem(("dialects",), f'"{dialect}" is listed more than once')
    yield from _alias_clashes(settings)


def _alias_clashes(settings: Settings) -> Iterator[Problem]:
    owners = {alias: alias for alias in settings.models}
    for alias, model in settings.models.items():
        for name in model.aliases:
            owner = owners.setdefault(name, alias)
            if owner != alias:
                yield Problem(
                    ("models", alias, "aliases"), f'"{name}" already names the model "{owner}"'
                )
