"""How errors appear on the wire: what the vendors' tables have in common."""

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from mlxd import errors
from mlxd.messages import Tool

FINAL = (errors.ModelUnusable, errors.Cancelled, errors.DeadlineExceeded, errors.InvalidLogits)
"""Failures that would only repeat themselves, or are meant to last."""


class ErrorRow(NamedTuple):
    """How a class of errors appears; `retry` in seconds goes out as `retry-after`."""

    status: int
    type: str
    code: str | None = None
    param: str | None = None
    retry: float | None = None


def retry_headers(error: errors.MlxdError, row: ErrorRow) -> dict[str, str]:
    """The headers by which clients know whether to try again, and when."""
    headers = {}
    seconds = error.retry_after if isinstance(error, errors.Unavailable) else row.retry
    if seconds is not None:
        # The header itself has whole seconds; the vendors' clients read the other too.
        headers["retry-after"] = str(max(1, math.ceil(seconds)))
        headers["retry-after-ms"] = str(max(1, math.ceil(1000 * seconds)))
    if isinstance(error, FINAL):
        headers["x-should-retry"] = "false"
    return headers


def bracketed(field: str) -> str:
    """`messages.0.content` as it is said: `messages[0].content`."""
    path = ""
    for part in field.split("."):
        path += f"[{part}]" if part.isdecimal() else f".{part}" if path else part
    return path


def schema_places(
    tools: Sequence[Tool],
    schemas: Mapping[str, str],
    inner: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Where the schemas of tools stand in the caller's body, by the engine's names for them.

    `schemas` are the places by the names of the tools; of those in `inner` only the part of the
    schema at this path is the caller's.
    """
    return {
        f"tools.{number}.function.parameters{inner.get(tool.name, '')}": schemas[tool.name]
        for number, tool in enumerate(tools)
        if tool.name in schemas
    }
