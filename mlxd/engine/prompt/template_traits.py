"""What a chat template can take, found out by trying it on small conversations.

Templates differ in what they accept and many raise on the rest. The probes use words that no
template contains, and look for them in what is rendered.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, Literal

from mlxd.engine.prompt.chat_template import ChatMessage, ChatTemplate, TemplateFault
from mlxd.engine.prompt.thinking_off import SWITCHES, ThinkingOff, find_off

REQUEST_ARGUMENTS: dict[str, Any] = {
    "enable_thinking": True,
    "thinking": True,
    "reasoning_effort": "high",
    "thinking_budget": 1024,
    "preserve_thinking": True,
    "clear_thinking": True,
    "thinking_mode": "thinking",
    "date_string": "1 Jan 2026",
    "add_vision_id": False,
    "builtin_tools": "",
}
"""The template's arguments that a request may set, each with a value to try."""

ArgumentForm = Literal["object", "text"]
FORMS: tuple[ArgumentForm, ...] = ("object", "text")
CONTENTS = ("", None)
ReasoningKey = Literal["reasoning_content", "reasoning", "thinking", "parts"]
REASONING_KEYS: tuple[ReasoningKey, ...] = ("reasoning_content", "reasoning", "thinking", "parts")
"""Where families look for an answer's thinking: under a key of the turn, or in an own part."""


@dataclass(frozen=True)
class CallShape:
    """How the template wants an assistant's tool calls.

    `content` stands where the turn has no text; `arguments` are an object or JSON text; `short_ids`
    must be nine letters and digits. With `numbered_ids` they are `functions.NAME:N`, because the
    template writes nothing else of a call's name.
    """

    content: str | None = ""
    arguments: ArgumentForm = "object"
    short_ids: bool = False
    numbered_ids: bool = False


@dataclass(frozen=True)
class TemplateTraits:
    """What a template accepts; where a field is False the conversation has to do without.

    `system_later`: system turns after the first turn, rendered in place. `users_in_row` and
    `assistants_in_row`: turns of one role after another. `no_user`: conversations without a user
    turn. `calls` and `results`: tool calls and turns of the tool role; neither where a template has
    no place for `tools`, because the words that stand in for it teach another form.
    `reasoning_key` is where it looks for an answer's thinking, `reasoned_calls`: an assistant turn
    with reasoning, text and calls; `thinking_in_text` are the tags in which thinking before a call
    stands in its text, where a template has no place for it. `spoken_calls`: text in a turn with
    calls is shown; `calls_apart`: it is as a turn of its own before that one. `tools_lead`: the
    text of the system turn without which tools are not shown, None if they are; `tools_no_user`:
    they are shown without a user turn. `thinking_switch` is the argument that turns thinking on and
    off, `thinking_off` what turns it off by whatever way there is; `arguments` are those of
    `REQUEST_ARGUMENTS` that do no harm.
    """

    content_parts: bool = False
    system: bool = True
    system_later: bool = True
    users_in_row: bool = True
    assistants_in_row: bool = True
    assistant_first: bool = True
    no_user: bool = True
    empty_assistant: bool = True
    tools: bool = True
    tools_lead: str | None = None
    tools_no_user: bool = True
    calls: CallShape | None = CallShape()
    parallel_calls: bool = True
    unanswered_calls: bool = True
    reasoning_key: ReasoningKey = "reasoning_content"
    reasoned_calls: bool = True
    thinking_in_text: tuple[str, str] | None = None
    spoken_calls: bool = True
    calls_apart: bool = False
    results: bool = True
    user_after_results: bool = True
    thinking_switch: str | None = None
    thinking_off: ThinkingOff | None = None
    effort: bool = False
    budget: bool = False
    arguments: frozenset[str] = frozenset()

    def without_tools(self) -> "TemplateTraits":
        """The same with tools, calls and results as text."""
        return replace(self, tools=False, calls=None, results=False)

    def features(self) -> tuple[str, ...]:
        """What a template takes that not every one does, by the names that requests have for it."""
        named = {
            "system": self.system,
            "tools": self.tools,
            "parallel_tool_calls": self.calls is not None and self.parallel_calls,
            self.thinking_switch or "": self.thinking_switch is not None,
            "reasoning_effort": self.effort,
            "thinking_budget": self.budget,
        }
        return tuple(name for name, takes in named.items() if takes)

    def strict(self) -> "TemplateTraits":
        """The least that a template may accept: user and assistant in turns, text only."""
        return replace(
            self.without_tools(),
            system=False,
            system_later=False,
            users_in_row=False,
            assistants_in_row=False,
            assistant_first=False,
            no_user=False,
            empty_assistant=False,
        )


def probe(template: ChatTemplate) -> TemplateTraits:
    """Try `template` out: some dozens of tiny renderings."""
    return _Prober(template).traits()


U1, U2, U3 = ({"role": "user", "content": f"qzuser{n}"} for n in "abc")
A1, A2 = ({"role": "assistant", "content": f"qzanswer{n}"} for n in "ab")
S1, S2 = ({"role": "system", "content": f"qzsystem{n}"} for n in "ab")
ODD_IDS = (("call_qz-0001", "call_qz-0002"), ("1", "2"))
SHORT_IDS = ("qzid00001", "qzid00002")
NUMBERED_IDS = ("functions.qztool:0", "functions.qztool:1")
SHORT, NUMBERED = {"short_ids": True}, {"numbered_ids": True}
LEADS = ("", "You can call functions.")
"""Texts of a system turn that is there for the tools alone."""
TOOL = {
    "type": "function",
    "function": {
        "name": "qztool",
        "description": "qzdescription",
        "parameters": {
            "type": "object",
            "properties": {"qzkey": {"type": "string", "description": "qzhint"}},
            "required": ["qzkey"],
        },
    },
}


class _Prober:
    def __init__(self, template: ChatTemplate) -> None:
        self._template = template
        self._parts = False
        self._shape = CallShape()
        self._ids = ODD_IDS[0]
        self._tools: tuple[Mapping[str, Any], ...] = ()

    def traits(self) -> TemplateTraits:
        if not self._shows([U1]):
            # Some templates render texts only as lists of parts.
            self._parts = True
            self._parts = self._shows([U1])
        # Some templates put it before the last question, where it moves with every turn.
        system = self._shows([S1, U1]) and self._shows([S1, U1, A1, U2])
        plain = TemplateTraits(
            content_parts=self._parts,
            system=system,
            users_in_row=self._shows([U1, U2]) and self._shows([U1, A1, U2, U3]),
            assistants_in_row=self._shows([U1, A1, A2, U2]),
            assistant_first=self._shows([A1, U1]) and (not system or self._shows([S1, A1, U1])),
            no_user=self._shows([S1] if system else [A1]),
            empty_assistant=self._renders([U1, {**A1, "content": ""}, U2]),
            system_later=self._takes_later_system(system),
            **self._switches(),
        )
        return self._with_tools(plain)

    def _with_tools(self, traits: TemplateTraits) -> TemplateTraits:
        lead = [S1, U1] if traits.system else [U1]
        tools = self._offers(lead)
        self._tools = (TOOL,) if tools else ()
        tools_lead = None
        if tools and not self._offers([U1]):
            leads = ({"role": "system", "content": text} for text in LEADS)
            tools_lead = next((lead["content"] for lead in leads if self._offers([lead, U1])), None)
        # Without a place for tools they are described in words; calls and results then follow.
        shape = self._call_shape() if tools else None
        self._shape = shape or CallShape()
        answered = self._render([U1, self._call(), self._result()]) or ""
        results = tools and _in_order(answered, ("qzusera", "qzresulta"))
        later = traits.system_later and (
            shape is None or not results or self._shows([U1, self._call(), self._result(), S1])
        )
        key = next(filter(self._shows_reasoning, REASONING_KEYS), REASONING_KEYS[0])
        reasoned = with_reasoning({**self._call(), **A1}, "qzreasoning", key)
        return replace(
            traits,
            system_later=later,
            tools=tools,
            tools_lead=tools_lead,
            tools_no_user=not tools or self._offers([S1] if traits.system else [A1]),
            calls=shape,
            results=results,
            parallel_calls=self._keeps_calls(
                [U1, self._call(2), self._result(), self._result(1)], 2
            ),
            unanswered_calls=self._keeps_calls([U1, self._call(), U2], 1),
            spoken_calls=self._shows([U1, {**self._call(), **A1}, self._result()]),
            calls_apart=self._keeps_calls([U1, A1, self._call(), self._result()], 1),
            reasoning_key=key,
            reasoned_calls=self._render([U1, reasoned, self._result()]) is not None,
            user_after_results=self._shows([U1, self._call(), self._result(), U2]),
        )

    def _shows_reasoning(self, key: ReasoningKey) -> bool:
        """Whether thinking before a call, where most templates keep it, is rendered."""
        turn = with_reasoning(self._call(), "qzreasoning", key)
        text = self._render([U1, turn, self._result()]) or ""
        # A template that knows no parts may write the list as it is.
        return "qzreasoning" in text and not any(f"{q}thinking{q}:" in text for q in "'\"")

    def _offers(self, messages: Sequence[ChatMessage]) -> bool:
        """Whether a tool is shown beside these messages."""
        return "qztool" in (self._render(messages, tools=(TOOL,)) or "")

    def _takes_later_system(self, system: bool) -> bool:
        lead = [S2] if system else []
        conversations = ([U1, A1, S1, U2], [U1, S1], [U1, S1, A1, U2], [U1, A1, U2, S1])
        if not all(self._shows([*lead, *turns]) for turns in conversations):
            return False
        before = self._render([*lead, U1, A1, U2], open_answer=False)
        after = self._render([*lead, U1, A1, U2, S1], open_answer=False)
        return before is not None and after is not None and after.startswith(before)

    def _call_shape(self) -> CallShape | None:
        """The first shape of a call whose name and arguments come out whole."""
        # What the template takes as it is comes before ids that it would not need.
        for ids, form in ((ODD_IDS, {}), ((SHORT_IDS,), SHORT), ((NUMBERED_IDS,), NUMBERED)):
            for content, arguments in product(CONTENTS, FORMS):
                shape = CallShape(content, arguments, **form)
                if all(self._calls_come_out(shape, pair) for pair in ids):
                    return shape
        self._ids = ODD_IDS[0]
        return None

    def _calls_come_out(self, shape: CallShape, ids: tuple[str, str]) -> bool:
        self._shape, self._ids = shape, ids
        texts = (self._render([U1, self._call(), rest]) for rest in (self._result(), U2))
        return any(text is not None and _whole_call(text) for text in texts)

    def _keeps_calls(self, messages: Sequence[ChatMessage], count: int) -> bool:
        """Whether all texts are rendered in their order, and that many calls with them."""
        text = self._render(messages) or ""
        return self._shows(messages) and text.count("qzvalue") == count

    def _switches(self) -> dict[str, Any]:
        switches = [name for name in SWITCHES if self._differs(name, True, False)]
        return {
            "thinking_switch": switches[0] if switches else None,
            "thinking_off": find_off(self._render, self._template.source),
            "effort": self._differs("reasoning_effort", "low", "high"),
            "budget": self._differs("thinking_budget", 1024, 2048),
            "arguments": frozenset(
                name
                for name, value in REQUEST_ARGUMENTS.items()
                if self._render([U1], arguments={name: value}) is not None
            ),
        }

    def _differs(self, name: str, one: Any, other: Any) -> bool:
        texts = [self._render([U1], arguments={name: value}) for value in (one, other)]
        return None not in texts and texts[0] != texts[1]

    def _call(self, count: int = 1) -> ChatMessage:
        arguments = {"qzkey": "qzvalue"}
        text = '{"qzkey": "qzvalue"}'
        function = {
            "name": "qztool",
            "arguments": arguments if self._shape.arguments == "object" else text,
        }
        calls = [{"id": id_, "type": "function", "function": function} for id_ in self._ids[:count]]
        return {"role": "assistant", "content": self._shape.content, "tool_calls": calls}

    def _result(self, number: int = 0) -> ChatMessage:
        id_, content = self._ids[number], f"qzresult{'ab'[number]}"
        return {"role": "tool", "content": content, "tool_call_id": id_, "name": "qztool"}

    def _shows(self, messages: Sequence[ChatMessage]) -> bool:
        """Whether all texts of `messages` are rendered, in their order."""
        text = self._render(messages)
        words = [message["content"] for message in messages if message["content"]]
        return text is not None and _in_order(text, words)

    def _renders(self, messages: Sequence[ChatMessage]) -> bool:
        text = self._render(messages)
        return text is not None and "None" not in text[text.find("qzusera") :]

    def _render(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        open_answer: bool = True,
        arguments: Mapping[str, Any] | None = None,
    ) -> str | None:
        if self._parts:
            messages = [in_parts(message) for message in messages]
        calls = any("tool_calls" in message for message in messages)
        try:
            return self._template.render(
                messages,
                tools=tools or (self._tools if calls else None),
                open_answer=open_answer,
                arguments=arguments,
            )
        except TemplateFault:
            return None


def with_reasoning(message: ChatMessage, text: str, key: ReasoningKey) -> ChatMessage:
    """An assistant's message with its thinking where the template looks for it."""
    if key != "parts":
        return {**message, key: text}
    said = message.get("content") or ""
    parts = [{"type": "thinking", "thinking": text}, {"type": "text", "text": said}]
    return {**message, "content": parts if said else parts[:1]}


def in_parts(message: ChatMessage) -> ChatMessage:
    """The message with its text as a list of one part."""
    if not isinstance(message.get("content"), str):
        return message
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _in_order(text: str, words: Iterable[str]) -> bool:
    at = 0
    for word in words:
        at = text.find(word, at)
        if at < 0:
            return False
        at += len(word)
    return True


def _whole_call(text: str) -> bool:
    """Whether a call came out with its arguments as JSON or markup, not as Python or as a text."""
    after = text[text.find("qzusera") :]
    whole = _in_order(text, ("qzusera", "qztool", "qzkey", "qzvalue"))
    return whole and not any(word in after for word in ("'qzkey'", '\\"qzkey', "None"))
