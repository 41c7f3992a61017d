"""Whether calls are read back from what a chat template makes of them.

What the template writes of earlier calls is what its model was trained to write, or will imitate.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NamedTuple

from mlxd.engine.interface import Markup
from mlxd.engine.notations.table import notation_named
from mlxd.engine.parsing.whole_answer import read_answer
from mlxd.engine.prompt.chat_template import ChatTemplate, TemplateFault
from mlxd.engine.prompt.rendering import TemplateContext, shared
from mlxd.engine.prompt.template_traits import TemplateTraits
from mlxd.engine.prompt.turns import ChatCall, ChatTurn, one_spelling
from mlxd.messages import Text, Tool, ToolCall

TOOLS = (
    Tool(
        "qzlamp",
        "qzdescription",
        json.dumps(
            {
                "type": "object",
                "properties": {
                    "qzroom": {"type": "string", "description": "qzhint"},
                    "qzcount": {"type": "integer", "description": "qzhint"},
                    "qzlevel": {"type": "number", "description": "qzhint"},
                    "qzon": {"type": "boolean", "description": "qzhint"},
                    "qzplan": {"type": "object", "description": "qzhint"},
                },
                "required": ["qzroom"],
            }
        ),
    ),
    Tool(
        "qzbell",
        "qzdescription",
        json.dumps(
            {
                "type": "object",
                "properties": {"qztone": {"type": "integer", "description": "qzhint"}},
            }
        ),
    ),
)
PLAN = {"qzsteps": [1, "qzdim"]}
CALLS = (
    ChatCall(
        "call_qz0",
        "qzlamp",
        {"qzroom": "qz attic", "qzcount": 7, "qzlevel": 0.5, "qzon": True, "qzplan": PLAN},
    ),
    ChatCall("call_qz1", "qzbell", {"qztone": 440}),
)
QUESTION = ChatTurn("user", "qzquestion")
DESCRIBED_TOOLS = [
    {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": json.loads(tool.parameters),
        },
    }
    for tool in TOOLS
]


class Trip(NamedTuple):
    """How well calls came back; the least is the best."""

    beside: int
    """Characters beside the calls. Headers and ends of turns are always among them, and markup of
    calls that is not read is more."""
    foreign: bool
    """The template writes calls in another form than the notation."""


class RoundTrip:
    """Renders calls with one template, and reads them back."""

    def __init__(self, template: ChatTemplate, traits: TemplateTraits) -> None:
        self._template = template
        self._traits = traits
        self._written: dict[str | None, list[list[str]]] = {}
        """For one call and for two, what may be the answer that holds them."""

    def trip(self, markup: Markup) -> Trip | None:
        """How one call and two come back by `markup`; None if they don't."""
        # A template with calls of its own writes the same for all notations.
        key = None if self._traits.calls else markup.tool_format
        if key not in self._written:
            counts = (1, 2) if self._traits.parallel_calls else (1,)
            self._written[key] = [self._answers(markup, CALLS[:count]) for count in counts]
        beside, foreign = 0, False
        for count, answers in enumerate(self._written[key], 1):
            lengths = ((text, _beside(text, markup, CALLS[:count])) for text in answers)
            found = next(((text, size) for text, size in lengths if size is not None), None)
            if found is None:
                return None
            beside += found[1]
            foreign = foreign or _dense(_opening(markup)) not in _dense(found[0])
        return Trip(beside, foreign)

    def _answers(self, markup: Markup, calls: Sequence[ChatCall]) -> list[str]:
        """What may be the answer with `calls`: its beginning is not the same for all templates."""
        context = TemplateContext(self._template, self._traits, markup, DESCRIBED_TOOLS, {})
        asked = [QUESTION, ChatTurn("assistant", calls=tuple(calls))]
        results = [ChatTurn("tool", "qzresult", call_id=call.id, name=call.name) for call in calls]
        heads = list(_heads(context))
        answers = []
        # Some templates show calls only once they are answered, or once the user has spoken again.
        for behind in ([], results, [*results, ChatTurn("user", "qzthanks")]):
            with suppress(TemplateFault):
                text = context.text([*asked, *behind], open_answer=False)
                whole = {len(head) for head in heads if text.startswith(head)}
                begins = [*sorted(whole, reverse=True), *(shared(text, head) for head in heads[:1])]
                answers += [text[begin:] for begin in begins]
        return list(dict.fromkeys(answers))


def with_thinking(template: ChatTemplate, traits: TemplateTraits, markup: Markup) -> TemplateTraits:
    """`traits` with thinking before calls in their text, if it comes through that way alone."""
    asked = ChatTurn("assistant", reasoning="qzthought", calls=CALLS[:1])
    result = ChatTurn("tool", "qzresult", call_id=CALLS[0].id, name=CALLS[0].name)
    tags = markup.reasoning[0] if markup.reasoning else ("", "")
    inside = replace(traits, thinking_in_text=tags)
    for tried, word in ((traits, "qzthought"), (inside, f"{tags[0]}\nqzthought\n{tags[1]}")):
        context = TemplateContext(template, tried, markup, DESCRIBED_TOOLS, {})
        with suppress(TemplateFault):
            text = context.text([QUESTION, asked, result], open_answer=False)
            before, found, after = text.partition(word)
            # Beside a place of the template's own it would stand a second time.
            again = tried is inside and tags[0] in before[before.find(QUESTION.text) :]
            if found and CALLS[0].name in after and not again:
                return tried
    return traits


def _heads(context: TemplateContext) -> Iterator[str]:
    """What a conversation has before an answer, in the ways that templates begin one."""
    for open_answer in (False, True):
        with suppress(TemplateFault):
            yield context.text([QUESTION], open_answer=open_answer)
    with suppress(TemplateFault):
        answered = context.text([QUESTION, ChatTurn("assistant", "qzanswer")], open_answer=False)
        yield answered[: answered.find("qzanswer")]


def _opening(markup: Markup) -> str:
    form = notation_named(markup.tool_format).form
    return form.region[0] + form.call[0].format(name=CALLS[0].name)


def _dense(text: str) -> str:
    return "".join(text.split())


def _beside(text: str, markup: Markup, calls: Sequence[ChatCall]) -> int | None:
    parts = read_answer(text, markup, TOOLS)
    if parts is None:
        return None
    read = [(part.name, part.arguments) for part in parts if isinstance(part, ToolCall)]
    if len(read) != len(calls):
        return None
    for (name, arguments), call in zip(read, calls, strict=True):
        if name != call.name or one_spelling(arguments) != json.dumps(
            call.arguments, sort_keys=True
        ):
            return None
    return sum(len(part.text) for part in parts if isinstance(part, Text))
