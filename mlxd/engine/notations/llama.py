"""Llama 3's calls: bare JSON, or JSON behind one control token."""

from functools import partial

from mlxd.engine.notations.notation import Form, Notation
from mlxd.engine.notations.reading.json_calls import (
    EITHER_KEY,
    JsonSurroundings,
    bare_calls,
    json_calls,
)

_PYTHON_TAG = "<|python_tag|>"

LLAMA3_JSON = Notation(
    "llama3_json",
    Form(('{{"name": "{name}", "parameters": ', "}}"), single=True),
    {_PYTHON_TAG: partial(json_calls, around=JsonSurroundings())},
    bare=partial(bare_calls, keys=EITHER_KEY),
    bare_lines=True,
    signs=(_PYTHON_TAG, '{"name": function name, "parameters":'),
)
