"""The tags that families of models put around their thinking, and which of them a model has."""

from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

TagSource = Literal["", "configuration", "template", "vocabulary", "notation"]
"""Where a model's tags were found; empty where none were."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class ThinkingTags:
    """How a family marks its thinking; the first of `pairs` is the one that is written for it.

    A model has them if its chat template holds all of `signs`, or the first pair where there are
    none; else if both tags are tokens of its vocabulary. `frames` stand around what is no thinking,
    and are no content.
    """

    pairs: tuple[Pair, ...]
    signs: tuple[str, ...] = ()
    frames: tuple[str, ...] = ()

    def in_template(self, source: str) -> bool:
        """Whether a chat template writes or describes these tags."""
        return all(sign in source for sign in self.signs or self.pairs[0])

    def in_vocabulary(self, vocabulary: Container[str]) -> bool:
        """Whether both tags are tokens; what tells families apart besides must be tokens too."""
        return all(sign in vocabulary for sign in self.signs or self.pairs[0])


_CHANNELS = (
    "thought",
    "thoughts",
    "thinking",
    "think",
    "analysis",
    "reasoning",
    "plan",
    "planning",
)

# What only one family has comes before what many have; of several in a template the first counts.
FAMILIES = (
    ThinkingTags((("[THINK]", "[/THINK]"),)),
    ThinkingTags((("<seed:think>", "</seed:think>"),)),
    ThinkingTags(
        (("<|START_THINKING|>", "<|END_THINKING|>"),),
        frames=(
            *("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
            *("<|START_TEXT|>", "<|END_TEXT|>"),
        ),
    ),
    ThinkingTags((("<mm:think>", "</mm:think>"),)),
    ThinkingTags((("<think:opensource>", "</think:opensource>"),)),
    ThinkingTags((("<|inner_prefix|>", "<|inner_suffix|>"),)),
    ThinkingTags((("<longcat_think>", "</longcat_think>"),)),
    ThinkingTags((("<|think:start|>", "<|think:end|>"),)),
    # `<|end|>` alone ends turns of other families.
    ThinkingTags(
        (("<|think|>", "<|end|>"),),
        signs=("<|think|>", "<|end|>", "<|content|>"),
        frames=("<|begin|>assistant", "<|content|>"),
    ),
    # A channel may have any name; with one that is not listed its line stays in the thinking.
    ThinkingTags(
        tuple((f"<|channel>{name}", "<channel|>") for name in (*_CHANNELS, "")),
        signs=("<|channel>", "<channel|>"),
    ),
    ThinkingTags(
        (("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),),
        signs=("[BEGIN FINAL RESPONSE]",),
        frames=("[END FINAL RESPONSE]",),
    ),
    ThinkingTags((("Here is my thought process:", "Here is my response:"),)),
    ThinkingTags(
        (("<think>", "</think>"),),
        signs=("<think>", "<response>", "</response>"),
        frames=("<response>", "</response>"),
    ),
    ThinkingTags(
        (("<think>", "</think>"),),
        signs=("<think>", "<answer>", "</answer>"),
        frames=("<answer>", "</answer>"),
    ),
    ThinkingTags((("<think>", "</think>"),)),
)


def find_tags(source: str, vocabulary: Container[str]) -> tuple[ThinkingTags | None, TagSource]:
    """A model's tags by the text of its chat template, else by its vocabulary."""
    for family in FAMILIES:
        if family.in_template(source):
            return family, "template"
    for family in FAMILIES:
        if family.in_vocabulary(vocabulary):
            return family, "vocabulary"
    return None, ""
