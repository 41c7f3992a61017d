"""Calls of MiniMax M1, one a line, with lines among them that are none."""

import pytest

from mlxd.events import collect
from tests.engine.texts import Given, cuts, outcome, read, stream, words

pytestmark = pytest.mark.thorough

GIVEN = Given("minimax_m1")
OSLO = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
TIME = '{"name": "get_time", "arguments": {}}'
CALLS = {OSLO: ("call", "get_weather", '{"city": "Oslo"}'), TIME: ("call", "get_time", "{}")}
NOTE = "tool call repaired: a line that is no call was dropped"


@pytest.mark.parametrize("end", ["\n</tool_calls>", "", "</tool_calls>\nDone."])
@pytest.mark.parametrize(
    "broken", ["{not json}", '{"arguments": {"city": "Rome"}}', '{"name": 5}', "{}"]
)
def test_a_line_that_is_no_call_costs_only_itself(broken: str, end: str) -> None:
    for lines in ([broken, OSLO], [OSLO, broken, TIME], [broken, broken, OSLO, broken, TIME]):
        whole = "<tool_calls>\n" + "\n".join(lines) + end
        answer = read(whole, GIVEN)
        done = [("text", "Done.")] if end.endswith("Done.") else []
        assert words(answer) == [*(CALLS[line] for line in lines if line != broken), *done]
        assert answer.finished.notes == (NOTE,)
        for pieces in cuts(whole):
            assert outcome(collect(stream(pieces, GIVEN))) == outcome(answer)


def test_words_before_the_first_call_and_a_broken_line_behind_the_last_are_left_out() -> None:
    answer = read(f"<tool_calls>\nLet me see.\n{OSLO}\n{{x}}\n</tool_calls>", GIVEN)
    assert words(answer) == [CALLS[OSLO]]


def test_a_call_of_a_tool_that_is_not_offered_is_text() -> None:
    nobody = TIME.replace("get_time", "nobody")
    answer = read(f"<tool_calls>\n{OSLO}\n{nobody}\n</tool_calls>", GIVEN)
    assert words(answer) == [CALLS[OSLO], ("text", f"{nobody}\n</tool_calls>")]
