"""How a model is to be asked and its text to be read, found out from its tokenizer and template."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from mlxd.engine.interface import Markup
from mlxd.engine.notations.table import DESCRIBED, NOTATIONS, notation_named
from mlxd.engine.prompt.chat_template import ChatTemplate
from mlxd.engine.prompt.round_trip import RoundTrip, with_thinking
from mlxd.engine.prompt.template_traits import TemplateTraits, probe
from mlxd.engine.prompt.thinking_tags import find_tags
from mlxd.engine.protocol import ModelSpec
from mlxd.status import AnswerFormat

UNREADABLE = "tools are described in words: the template's own form can't be read"
LOST = "calls do not come through the template, neither as it writes them nor in words"
REPLACED = "the chat template takes no conversation: its turns are written without it"
NOT_READ_BACK = "calls that the template writes are not read back as `tool_format` {name}"


@dataclass(frozen=True)
class ModelFormat:
    """What a template takes, how answers are read, and how that was found."""

    traits: TemplateTraits
    markup: Markup
    answer: AnswerFormat


def read_format(tokenizer: Any, spec: ModelSpec) -> ModelFormat:
    """Find out the format of a loaded tokenizer; the configuration's own words come first."""
    return _Detection(tokenizer, spec).format()


class _Detection:
    def __init__(self, tokenizer: Any, spec: ModelSpec) -> None:
        self._tokenizer = tokenizer
        self._spec = spec
        self._template = ChatTemplate(tokenizer)
        self._traits = probe(self._template)
        if not self._traits.tools:
            self._traits = self._traits.without_tools()
        self._round_trip = RoundTrip(self._template, self._traits)
        self._found = self._by_signs()
        self._reasoning, self._frames, self._tags_from = self._tags()

    def format(self) -> ModelFormat:
        """The first of these that holds: what is configured, found, readable; else words."""
        configured = self._spec.tool_format
        if configured is not None:
            return self._configured(configured)
        if self._traits.tools:
            if name := self._best(self._found):
                return self._format(self._traits, name, self._found[name])
            # Without calls of its own a template says nothing of what its model writes.
            if self._traits.calls and (name := self._best(NOTATIONS)):
                return self._format(self._traits, name, "reading")
        words = self._traits.without_tools()
        if self._traits.tools and not self._reads_words(words):
            # What even plain text does not come through says nothing against the template.
            name = next(iter(self._found), None)
            return self._format(self._traits, name, self._found.get(name or "", ""), problem=LOST)
        # A model may fall into what it was trained to write, whatever it is told.
        trained = tuple(
            name
            for name in self._found
            if not NOTATIONS[name].starts.keys() <= DESCRIBED.starts.keys()
        )
        problem = UNREADABLE if self._traits.tools else ""
        return self._format(words, DESCRIBED.name, "", also=trained, problem=problem)

    def _reads_words(self, words: TemplateTraits) -> bool:
        """Whether calls come back where tools are described in words."""
        return RoundTrip(self._template, words).trip(self._markup(DESCRIBED.name)) is not None

    def _configured(self, name: str) -> ModelFormat:
        read = self._round_trip.trip(self._markup(name)) is not None
        problem = "" if read else NOT_READ_BACK.format(name=name)
        return self._format(self._traits, name, "configuration", problem=problem)

    def _best(self, names: Iterable[str]) -> str | None:
        """The notation that reads what the template writes, with the least text left beside it."""
        asked = (name for name in names if not NOTATIONS[name].only_read)
        trips = {name: self._round_trip.trip(self._markup(name)) for name in asked}
        read = {name: trip for name, trip in trips.items() if trip is not None}
        return min(read, key=lambda name: read[name], default=None)

    def _format(
        self,
        traits: TemplateTraits,
        name: str | None,
        source: str,
        *,
        also: tuple[str, ...] = (),
        problem: str = "",
    ) -> ModelFormat:
        markup = self._markup(name, also)
        if self._tags_from in ("template", "configuration"):
            traits = with_thinking(self._template, traits, markup)
        in_notation = markup.reasoning != self._reasoning
        answer = AnswerFormat(
            tools="template" if traits.tools else "words",
            tool_format=name or "",
            tool_format_from=source,
            reasoning_tags=markup.reasoning[0] if markup.reasoning else (),
            reasoning_tags_from="notation" if in_notation else self._tags_from,
            problem=problem or (REPLACED if self._template.replaced else ""),
            features=traits.features(),
        )
        return ModelFormat(traits, markup, answer)

    def _markup(self, name: str | None, also: tuple[str, ...] = ()) -> Markup:
        reasoning = self._reasoning
        structural = (*self._tokenizer.structural_markers, *self._frames)
        if (messages := notation_named(name).form.messages) is not None:
            structural = messages.structural
            if self._spec.reasoning_tags is None:
                reasoning = (messages.thinking,)
        return Markup(reasoning, name, structural, also)

    def _tags(self) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...], str]:
        """(pairs of tags, other texts that are no content, where they were found)."""
        tokenizer = self._tokenizer
        family, source = find_tags(self._template.source, tokenizer.get_vocab())
        frames = family.frames if family else ()
        if self._spec.reasoning_tags is not None:
            return (self._spec.reasoning_tags,), frames, "configuration"
        if family is not None:
            return family.pairs, frames, source
        if tokenizer.think_start and tokenizer.think_end:
            return ((tokenizer.think_start, tokenizer.think_end),), (), "tokenizer"
        return (), (), ""

    def _by_signs(self) -> dict[str, str]:
        """Notations that the model may write, by what gave them away, the surest first."""
        vocabulary, found = self._tokenizer.get_vocab(), dict[str, str]()
        for notation in NOTATIONS.values():
            if notation.tokens and all(token in vocabulary for token in notation.tokens):
                found[notation.name] = "vocabulary"
        # Set by the model's author, or by mlx-lm, which may know more families than we do.
        named = self._tokenizer.init_kwargs.get("tool_parser_type")
        if isinstance(named, str) and named in NOTATIONS:
            found.setdefault(named, "tokenizer")
        for notation in NOTATIONS.values():
            if any(sign in self._template.source for sign in notation.signs):
                found.setdefault(notation.name, "template")
        return found
