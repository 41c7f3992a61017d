"""Results of tools stand with the calls they belong to, in whatever order they came."""

import re
import time
from collections.abc import Sequence
from itertools import combinations, permutations

import pytest

from mlxd.engine.prompt.template_traits import TemplateTraits
from mlxd.engine.prompt.turn_layout import arrange
from mlxd.engine.prompt.turns import ChatCall, ChatTurn
from mlxd.messages import Message, Text, ToolCall
from tests.engine.prompt.support import rendered, result, say
from tests.templates import TEMPLATES

pytestmark = pytest.mark.mlx

NAMES = ("p", "q", "r")
SHOWS_IDS = (
    "{% for m in messages %}{{ '<|head|>' + m.role }}"
    "{% for c in m.tool_calls or [] %}{{ c.id + c.function.name }}"
    "{{ c.function.arguments | tojson }}{% endfor %}"
    "{{ (m.tool_call_id or '') + (m.name or '') + (m.content or '') + '<|eot|>' }}{% endfor %}"
    "{% for t in tools or [] %}{{ t.function.name }}{% endfor %}"
)
ALL = [*TEMPLATES, pytest.param(SHOWS_IDS, id="shows ids")]
ONE_BY_ONE = "system first"
"""The template that takes one call a turn."""


def opens(name: str, id_: str | None = None) -> ToolCall:
    return ToolCall(id_ or f"call-{name}", "open", f'{{"path": "{name}.md"}}')


def answers(names: Sequence[str]) -> list[Message]:
    return [result(f"text of {name}", f"call-{name}") for name in names]


def asked(*names: str) -> list[Message]:
    return [say("user", "Read."), say("assistant", "Now.", *map(opens, names))]


def places(text: str) -> list[str]:
    """The calls and the results in the order in which a prompt has them."""
    return re.findall(r"[pqr]\.md|text of [pqr]", text)


@pytest.mark.parametrize("template", ALL)
def test_results_in_any_order_make_the_same_prompt(template: str) -> None:
    ends: tuple[list[Message], ...] = ([], [say("assistant", "Read."), say("user", "Go on.")])
    for end in ends:
        texts = {
            rendered(template, *asked(*NAMES), *answers(order), *end)
            for order in permutations(NAMES)
        }
        (text,) = texts
        found = places(text)
        assert [each for each in found if each.startswith("text")] == [
            f"text of {name}" for name in NAMES
        ]


@pytest.mark.parametrize("template", ALL)
def test_results_go_to_their_own_group_of_calls(template: str) -> None:
    def chat(first: Sequence[str], second: Sequence[str]) -> str:
        again = say("assistant", *(opens(name, f"call-{name}-2") for name in "pq"))
        later = [result(f"later {name}", f"call-{name}-2") for name in second]
        return rendered(template, *asked("p", "q"), *answers(first), again, *later)

    in_order = chat("pq", "pq")
    assert {chat(one, other) for one in ("pq", "qp") for other in ("pq", "qp")} == {in_order}
    words = ("text of p", "text of q", "later p", "later q")
    assert sorted(words, key=in_order.index) == list(words)


@pytest.mark.parametrize("template", ALL)
def test_an_id_that_comes_again_belongs_to_its_latest_call(template: str) -> None:
    again = say("assistant", opens("r", "call-q"), opens("q", "call-p"))
    later = [result("later q", "call-p"), result("later r", "call-q")]
    turns = [*asked("p", "q"), *answers("qp"), say("assistant", "So."), say("user", "x"), again]
    text = rendered(template, *turns, *later)
    words = ("text of p", "text of q", "So.", "later r", "later q")
    assert sorted(words, key=text.index) == list(words)


@pytest.mark.parametrize("template", ALL)
def test_calls_of_one_turn_that_share_an_id_are_answered_in_turn(template: str) -> None:
    calls = say("assistant", opens("p", "same"), opens("q", "same"))
    turns = (say("user", "x"), calls, result("text of p", "same"), result("text of q", "same"))
    text = rendered(template, *turns)
    assert text.index("text of p") < text.index("text of q")


@pytest.mark.parametrize("template", ALL)
def test_results_are_together_whatever_is_said_between_them(template: str) -> None:
    q, p = answers("qp")
    said = say("user", "One moment.")
    whole = rendered(template, *asked("p", "q"), p, q, said)
    assert rendered(template, *asked("p", "q"), q, said, p) == whole
    both = Message("user", (*q.parts, Text("One moment."), *p.parts))
    assert rendered(template, *asked("p", "q"), both) == whole


@pytest.mark.parametrize("template", ALL)
@pytest.mark.parametrize("known", [None, *(s for n in (1, 2) for s in combinations(NAMES, n))])
def test_a_result_goes_to_its_call_when_others_have_none(
    template: str, known: tuple[str, ...] | None
) -> None:
    known = known or ()
    gone = [name for name in NAMES if name not in known]
    end = say("user", "Go on.")
    text = rendered(template, *asked(*NAMES), *answers(known[::-1]), end)
    found = places(text)
    # Every call is there, and no result but the known ones.
    assert [each for each in found if each.endswith("md")] == ["p.md", "q.md", "r.md"]
    assert [each for each in found if each.startswith("text")] == [f"text of {n}" for n in known]
    if template == ONE_BY_ONE:
        # Behind its own call at once.
        assert all(found[found.index(f"{n}.md") + 1] == f"text of {n}" for n in known)
    elif "r" in known:
        # By position: as if the others had said nothing.
        empty = [result("", f"call-{name}") for name in gone]
        assert text == rendered(template, *asked(*NAMES), *answers(known), *empty, end)


def test_a_template_of_one_call_a_turn_never_gives_a_result_to_another_call() -> None:
    text = rendered(ONE_BY_ONE, *asked("p", "q"), *answers("q"), say("user", "Go on."))
    assert places(text) == ["p.md", "q.md", "text of q"]


@pytest.mark.parametrize("template", ALL)
def test_a_result_of_no_call_is_told_with_its_id_behind_the_others(template: str) -> None:
    lost = [result("text of r", "call-r"), result("lost too", "far-away")]
    text = rendered(template, *asked("p", "q"), lost[0], *answers("qp"), lost[1])
    words = ("p.md", "text of p", "text of q", "call-r", "text of r", "far-away", "lost too")
    assert sorted(words, key=text.index) == list(words)
    alone = rendered(template, say("user", "x"), *lost, say("user", "y"))
    assert "<tool_response>\nResult of call-r:\ntext of r\n</tool_response>" in alone


@pytest.mark.parametrize("template", ALL)
def test_a_late_result_changes_nothing_in_front_of_its_call(template: str) -> None:
    turns = [say("system", "lead " * 30), *asked("p", "q"), *answers("q"), say("user", "Go on.")]
    short, long = rendered(template, *turns), rendered(template, *turns, *answers("p"))
    before = long.index("p.md")
    assert short[:before] == long[:before]


@pytest.mark.parametrize("template", ALL)
def test_a_call_that_may_still_be_answered_gets_no_empty_answer(template: str) -> None:
    waiting = rendered(template, *asked("p"))
    assert "<tool_response>" not in waiting.replace("<tool_response></tool_response>", "")
    assert "[RESULT]" not in waiting


@pytest.mark.parametrize("ids", [[str(number) for number in range(20_000)], ["same"] * 20_000])
def test_very_many_results_are_placed_in_reasonable_time(ids: list[str]) -> None:
    calls = tuple(ChatCall(id_, "open", {}) for id_ in ids)
    results = [ChatTurn("tool", str(number), call_id=id_) for number, id_ in enumerate(ids)]
    began = time.process_time()
    placed = arrange([ChatTurn("assistant", calls=calls), *results[::-1]], TemplateTraits())
    assert time.process_time() - began < 2
    texts = [turn.text for turn in placed[1:]]
    assert texts == [turn.text for turn in (results if len(set(ids)) > 1 else results[::-1])]
