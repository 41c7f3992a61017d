"""A model's chat template as one function that renders or says why not."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import product
from typing import Any

ChatMessage = dict[str, Any]
"""A message as chat templates expect it."""

MAX_REASON = 200
"""Characters of a template's own error message that are passed on."""

TOOL_TEMPLATE = "tool_use"
"""The one that models with several templates have for conversations with tools."""
NAMED_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")

CHATML_TURN = "<|im_start|>"
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
PLAIN = (
    "{% for message in messages %}"
    "{{ message['role'].capitalize() + ': ' + message['content'] + '\n\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)


class TemplateFault(Exception):
    """The template refused a conversation or broke on it; the text says why in a few words."""


class ChatTemplate:
    """Renders conversations with what comes with the model; one plain form for models without."""

    def __init__(self, tokenizer: Any) -> None:
        if not tokenizer.has_chat_template:
            tokenizer.chat_template = CHATML if "<|im_end|>" in tokenizer.get_vocab() else PLAIN
            tokenizer.has_chat_template = True
        self._tokenizer = tokenizer
        self.source = source_of(tokenizer.chat_template)
        self._has_tool_template = (
            isinstance(tokenizer.chat_template, Mapping)
            and TOOL_TEMPLATE in tokenizer.chat_template
        )
        # Some templates write tokens that their tokenizer does not have.
        known = tokenizer.special_tokens_map if self.source else NAMED_TOKENS
        self._absent = dict.fromkeys((name for name in NAMED_TOKENS if name not in known), "")
        self._names_otherwise = False
        self._no_tools: dict[str, Any] = {}
        self.replaced = False
        """It takes no conversation: plain turns of the same markup stand in for it."""
        # Some templates want an empty list where there are no tools, or know them by another name.
        ways: tuple[dict[str, Any], ...] = ({}, {"tools": []})
        for self._names_otherwise, self._no_tools in product((False, True), ways):
            with suppress(TemplateFault):
                self.render([{"role": "user", "content": "Hello"}])
                break
        else:
            self._names_otherwise = False
        # Some templates set members of messages, which only other engines for templates allow.
        self.replaced = CHATML_TURN in self.source and not self._takes_answers()

    def _takes_answers(self) -> bool:
        roles = ("user", "assistant", "user")
        try:
            self.render([{"role": role, "content": "Hello"} for role in roles])
        except TemplateFault:
            return False
        return True

    def render(
        self,
        messages: Sequence[ChatMessage],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        open_answer: bool = False,
        arguments: Mapping[str, Any] | None = None,
    ) -> str:
        """The conversation as text; with `open_answer` it ends where the answer begins.

        Raises `TemplateFault`.
        """
        options = {**self._absent, **self._other_names(tools or ()), **(arguments or {})}
        if self.replaced:
            options["chat_template"] = CHATML
        if tools:
            options["tools"] = list(tools)
        elif self._has_tool_template and any(
            "tool_calls" in message or message["role"] == "tool" for message in messages
        ):
            options |= {"tools": [], "chat_template": TOOL_TEMPLATE}
        else:
            options |= self._no_tools
        try:
            text = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=open_answer, **options
            )
        except Exception as error:
            # Templates come with models: they may raise anything.
            words = " ".join(str(error).split()) or type(error).__name__
            raise TemplateFault(words[:MAX_REASON]) from error
        if not isinstance(text, str):
            raise TemplateFault("it gave no text")
        return text

    def _other_names(self, tools: Sequence[Mapping[str, Any]]) -> dict[str, str]:
        """What some templates take under names of their own: tools as JSON, and the day."""
        if not self._names_otherwise:
            return {}
        return {"functions": json.dumps(list(tools)), "datetime": time.strftime("%d %b %Y")}


def source_of(template: object) -> str:
    """The template's text; models may have several, by name."""
    if isinstance(template, Mapping):
        return "\n".join(text for text in template.values() if isinstance(text, str))
    return template if isinstance(template, str) else ""
