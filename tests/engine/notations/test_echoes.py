"""Calls that a model writes once more behind the end of their region."""

import pytest

from mlxd.events import collect
from tests.engine.texts import Given, cuts, stream, words

pytestmark = pytest.mark.thorough

LIST = '[get_weather(city="Oslo", days=2), get_time()]'
START, END = "<|tool_call_start|>", "<|tool_call_end|>"
ECHOES = [
    (LIST + END, []),
    (f"{LIST}{END} Wait.", [("text", "Wait.")]),
    (f"{LIST} Wait.", [("text", f"{LIST} Wait.")]),
    (f"[get_time(at=1)]{END}", [("text", f"[get_time(at=1)]{END}")]),
    ("[1] says so", [("text", "[1] says so")]),
]


@pytest.mark.parametrize(("behind", "shown"), ECHOES)
def test_a_list_of_calls_that_is_written_twice_counts_once(
    behind: str, shown: list[tuple[str, ...]]
) -> None:
    given = Given("pythonic", ())
    text = START + LIST + END + behind
    made = [("call", "get_weather", '{"city": "Oslo", "days": 2}'), ("call", "get_time", "{}")]
    for pieces in ([text], *cuts(text)):
        assert words(collect(stream(pieces, given))) == [*made, *shown]
