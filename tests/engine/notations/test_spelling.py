"""Calls that are written for a conversation are read back by the same notation."""

import json

import pytest

from mlxd.engine.notations.spelling import spelt
from mlxd.engine.notations.table import NOTATIONS
from mlxd.messages import ToolCall
from tests.engine.notations.samples import XTML_REASONING
from tests.engine.texts import Given, read

ARGUMENTS = {
    "city": 'Oslo, "the <b>old</b> town"\nand {more}',
    "days": 2,
    "wind": -1.5,
    "brief": False,
    "area": {"a": [1, "b", None]},
    "hours": [1, {"c": True}],
}
WITHOUT_MANY = {"harmony", "llama3_json", "bare_json", "gigachat"}
"""Notations in which a call is the whole answer."""


@pytest.mark.parametrize("name", NOTATIONS)
def test_spelt_calls_are_read_back(name: str) -> None:
    calls = [("get_weather", ARGUMENTS), ("get_time", {}), ("get_weather", {"city": "Rome"})]
    calls = calls[:1] if name in WITHOUT_MANY else calls
    reasoning = XTML_REASONING if name == "kimi_k3" else ()
    answer = read(spelt(NOTATIONS[name], calls), Given(name, reasoning))
    found = [part for part in answer.parts if isinstance(part, ToolCall)]
    assert [(part.name, json.loads(part.arguments)) for part in found] == calls
    assert answer.text.strip() == ""
    assert answer.finished.notes == ()
