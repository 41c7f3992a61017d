"""What the wire models of OpenAI's APIs have in common; the rest is in `wire`."""

from typing import Annotated

from pydantic import Field

from mlxd.api.wire.base import AN_OBJECT, FAIL_FAST, Wire, expected, type_tag, unknown_fields

__all__ = (
    "AN_OBJECT",
    "FAIL_FAST",
    "ToolName",
    "Wire",
    "expected",
    "type_tag",
    "unknown_fields",
)

ToolName = Annotated[str, Field(min_length=1, max_length=256)]
