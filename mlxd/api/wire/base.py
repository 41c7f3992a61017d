"""What the wire models of all dialects have in common.

Fields that a model does not declare are kept as extras: they are ignored, and named to the caller.
Branches of unions are tagged with names beginning with `#`; a union's discriminator is a function
whose name ends in `<field>_tag`. What turns pydantic's findings into a dialect's words reads both.
"""

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError


class Wire(BaseModel):
    """An object of the wire: types as they are, unknown fields kept."""

    model_config = ConfigDict(
        strict=True, extra="allow", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


FAIL_FAST = Field(fail_fast=True)
"""One wrong item is enough; a hostile list has a hundred thousand."""


def expected(what: str) -> PydanticCustomError:
    """The value is of no type that would do; `what` with its article."""
    return PydanticCustomError("expected", "expected {what}", {"what": what})


def _an_object(value: object) -> object:
    if isinstance(value, dict):
        return value
    raise expected("an object")


AN_OBJECT = BeforeValidator(_an_object)
"""In front of a union: only an object can say which branch it is."""


def text_or(kind: type, read: Callable[[str], object], what: str) -> BeforeValidator:
    """In front of a field of `kind`, for which a string may stand that `read` makes one of."""

    def validate(value: object) -> object:
        if isinstance(value, str):
            return read(value)
        if isinstance(value, kind):
            return value
        raise expected(what)

    return BeforeValidator(validate)


NULL_AS_EMPTY = BeforeValidator(lambda value: [] if value is None else value)
"""Behind `text_or`: a list that may be null, which says the same as an empty one."""

ToolName = Annotated[str, Field(min_length=1, max_length=256)]


def type_tag(value: dict[str, Any]) -> str | None:
    """The branch of an object that says in `type` what it is."""
    kind = value.get("type")
    return None if kind is None else f"#{kind}"


def without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    """An object's fields that say something: a null is the same as leaving the field out."""
    return {name: given for name, given in value.items() if given is not None}


def unknown_fields(model: Wire, prefix: str = "") -> Iterator[str]:
    """Dotted names of the extras of `model` and of what is inside, without indices."""
    for name in without_nulls(model.model_extra or {}):
        yield f"{prefix}{name}"
    # In the order of declaration: that of a set changes from process to process.
    for name in type(model).model_fields:
        if name in model.model_fields_set:
            yield from _inside(getattr(model, name), f"{prefix}{name}.")


def _inside(value: Any, prefix: str) -> Iterator[str]:
    if isinstance(value, Wire):
        yield from unknown_fields(value, prefix)
    elif isinstance(value, list):
        for item in value:
            yield from _inside(item, prefix)
