"""Calls as JSON without any markup, for models of which nothing else is known."""

from functools import partial

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.json_calls import EITHER_KEY, bare_calls

BARE_JSON = Notation(
    "bare_json",
    Form(('{{"name": "{name}", "arguments": ', "}}"), single=True),
    bare=partial(bare_calls, keys=EITHER_KEY),
)
