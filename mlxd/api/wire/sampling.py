"""How the next token is drawn, from the fields of any vendor's body."""

from typing import Any

from mlxd.api.wire.base import Wire
from mlxd.messages import Sampling

ALL_TOKENS = 1_000_000
"""A `top_k` from here on is above any vocabulary, and restricts nothing."""


def read_sampling(wire: Wire, **odd: Any) -> Sampling:
    """The fields of `wire` that are named as in `Sampling`; `odd` are those that are not."""
    # Only declared ones: extras are as the client sent them, and reported as ignored.
    declared = type(wire).model_fields.keys() & set(Sampling.__struct_fields__)
    values = {name: getattr(wire, name) for name in declared} | odd
    top_k = values.get("top_k")
    if top_k is not None and not 0 < top_k < ALL_TOKENS:
        values["top_k"] = 0
    if values.get("top_p") == 0:
        # The smallest set with no mass at all: the likeliest token alone.
        values |= {"top_p": None, "top_k": 1}
    return Sampling(**values)
