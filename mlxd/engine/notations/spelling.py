"""Calls of a conversation written as a notation's form has them."""

import json
from collections.abc import Sequence
from typing import Any

from mlxd.engine.notations.notation import Form, Notation


def spelt(notation: Notation, calls: Sequence[tuple[str, Any]]) -> str:
    """Calls, each as (tool, its arguments as JSON has them), as the model itself would write."""
    if notation.spell is not None:
        return notation.spell(calls)
    form = notation.form
    written = (_call(form, name, arguments) for name, arguments in calls)
    return form.region[0] + form.between.join(written) + form.region[1]


def _call(form: Form, name: str, arguments: Any) -> str:
    if form.json:
        body = _json(arguments)
    else:
        members = arguments if isinstance(arguments, dict) else {"arguments": arguments}
        body = form.comma.join(_member(form, key, value) for key, value in members.items())
    return form.call[0].format(name=name) + body + form.call[1].format()


def _member(form: Form, key: str, value: Any) -> str:
    plain = form.values == "plain" and isinstance(value, str)
    opening, closing = (
        text.format(key=key, string="true" if plain else "false") for text in form.member
    )
    return f"{opening}{value if plain else _json(value)}{closing}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
