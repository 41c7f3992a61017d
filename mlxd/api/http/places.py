"""Where in a body as sent stands what an engine names in its own terms."""

from collections.abc import Mapping
from dataclasses import replace

from mlxd.errors import InvalidField


def as_sent(field: str, places: Mapping[str, str]) -> str:
    """The path in the caller's body of a `field` of the neutral request; both dotted."""
    whole = field
    while whole:
        if whole in places:
            return places[whole] + field[len(whole) :]
        whole = whole.rpartition(".")[0]
    return field


def refused_as_sent(error: InvalidField, places: Mapping[str, str]) -> InvalidField:
    """`error` with the field's name in the caller's body."""
    return replace(error, field=as_sent(error.field, places))
