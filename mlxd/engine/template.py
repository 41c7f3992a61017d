"""A model's chat template as one function that renders or says why not."""

from collections.abc import Mapping, Sequence
from typing import Any

ChatMessage = dict[str, Any]
"""A message as chat templates expect it."""

MAX_REASON = 200
"""Characters of a template's own error message that are passed on."""

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
        self.source = _source(tokenizer.chat_template)

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
        options = dict(arguments or {})
        if tools:
            options["tools"] = list(tools)
        try:
            text = self._tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=open_answer, **options
            )
        except Exception as error:
            # Templates come with models: they may raise anything.
            raise TemplateFault(_reason(error)) from error
        if not isinstance(text, str):
            raise TemplateFault("it gave no text")
        return text


def _source(template: object) -> str:
    """The template's text; models may have several, by name."""
    if isinstance(template, Mapping):
        return "\n".join(text for text in template.values() if isinstance(text, str))
    return template if isinstance(template, str) else ""


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())
    return words[:MAX_REASON] if words else type(error).__name__
