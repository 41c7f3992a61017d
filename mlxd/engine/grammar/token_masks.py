"""What one row may write next: its grammar, its thinking budget, and an end before the limit.

A row without either has no steering and costs nothing. Masks are in numpy: they are made on the
CPU while the device computes the logits, and need no kernel of their own.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray

from mlxd.engine.grammar.shortest_ending import LONGEST, Closer

Mask = NDArray[np.bool_]

PATIENCE = 4
"""Tokens that a closing tag waits for the end of a character."""
MIN_GROWTH = 64
"""Tokens by which the way to the end is expected to grow at most with one token."""
ANSWER_SHARE = 8
"""The part of a row's tokens, one in so many, that thinking leaves to a constrained answer."""
MAX_ANSWER_ROOM = 256


@dataclass(frozen=True)
class Vocabulary:
    """One model's tokens as grammars see them; `size` is the length of the logits."""

    tokenizer: LLTokenizer
    closer: Closer
    size: int
    ends: tuple[int, ...]

    def only(self, token: int) -> Mask:
        """A mask that allows one token."""
        mask = np.zeros(self.size, dtype=np.bool_)
        mask[token] = True
        return mask

    def all_but_ends(self) -> Mask:
        """A mask that allows everything but the end of the answer."""
        mask = np.ones(self.size, dtype=np.bool_)
        mask[list(self.ends)] = False
        return mask

    def allowed(self, matcher: LLMatcher) -> Mask:
        """What the grammar allows next."""
        bits = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
        mask = np.unpackbits(bits, bitorder="little")[: self.size].astype(np.bool_)
        if len(mask) < self.size:
            mask = np.concatenate([mask, np.zeros(self.size - len(mask), dtype=np.bool_)])
        return mask


@dataclass(frozen=True)
class Grammar:
    """A compiled grammar.

    `shortest` are the tokens of a short answer, None when none was found. `growth` is about how
    much one token can add to the way to the end. `whole` says that the grammar describes the whole
    answer with its reasoning; else it begins behind the reasoning. `ends` are tokens that close
    something in it.
    """

    matcher: LLMatcher
    shortest: tuple[int, ...] | None
    growth: int
    whole: bool = False
    ends: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Thinking:
    """How a model thinks: its tags, the tokens that close the tag, and the budget in tokens.

    `inside` says that the prompt opens the tag; `starter` is the opening tag where it is one token.
    """

    opening: bytes
    closing: bytes
    closers: tuple[int, ...]
    budget: int | None = None
    inside: bool = False
    starter: int | None = None


class _Reasoning:
    """Follows where reasoning begins and ends, in the bytes of the tokens."""

    def __init__(self, thinking: Thinking) -> None:
        self._tags = (thinking.opening, thinking.closing)
        self.inside = thinking.inside
        self.used = 0
        self.rest = b""
        """What came behind the tag that was found last."""
        self._tail = b""
        self._characters = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def whole(self) -> bool:
        """Whether the text ends with a whole character."""
        return not self._characters.getstate()[0]

    def feed(self, raw: bytes) -> bool:
        """Follow one token; true when a tag was completed by it."""
        if self.inside:
            self.used += 1
        self._characters.decode(raw)
        self._tail += raw
        tag = self._tags[1 if self.inside else 0]
        _, found, rest = self._tail.partition(tag)
        if found:
            self.inside = not self.inside
            self.rest = self._tail = rest
            return True
        self._tail = self._tail[-len(tag) :]
        return False


class Steering:
    """One row's state. The draws go: `allowed`, the draw, `settle` if `settles`, later `took`."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        max_tokens: int,
        *,
        grammar: Grammar | None = None,
        thinking: Thinking | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._left = max_tokens
        self._grammar = grammar
        self._thinking = thinking
        self._matcher = grammar.matcher.deep_copy() if grammar else None
        self._reasoning = _Reasoning(thinking) if thinking else None
        self._forced: list[int] = []
        self._waited = 0
        self._answering = grammar is not None and (
            grammar.whole or thinking is None or not thinking.inside
        )
        self._may_think = self._answering and not (grammar is not None and grammar.whole)
        self._way = list(grammar.shortest) if grammar and grammar.shortest else None
        self._next_way: list[int] | None = None
        # A way to the end is dear to find and grows slowly: it is looked at again only when so few
        # tokens are left that it could have become too long.
        self._due = max_tokens
        self.settles = False
        self.fault = ""
        """Why the row can't go on, if it can't."""
        self.choices = 0
        """Draws that left a choice."""
        self._close_in_time()

    def allowed(self) -> Mask | None:
        """What the next token may be; None for everything."""
        mask = self._allowed()
        if mask is None or np.count_nonzero(mask) > 1:
            self.choices += 1
        return mask

    def _allowed(self) -> Mask | None:
        self.settles = False
        if self._forced:
            return self._vocabulary.only(self._forced[0])
        if self._matcher is None:
            return None
        if not self._answering:
            return self._vocabulary.all_but_ends()
        if self._left < 1 or self.fault:
            return None
        if self._must_close(self._matcher) and self._way is not None:
            return self._vocabulary.only(self._way[0])
        return self._mask(self._matcher)

    def settle(self, token: int) -> int:
        """The drawn token, or another one from which the answer can still end in time."""
        if self._matcher is None or not self._way or token in self._vocabulary.ends:
            return token
        if self._may_think and self._thinking and token == self._thinking.starter:
            return token
        ahead = self._matcher.deep_copy()
        if ahead.consume_token(token):
            way = self._way_from(ahead, token, self._left - 1)
            if way is not None and len(way) < self._left:
                self._next_way = way
                return token
        return self._way[0]

    def took(self, token: int) -> None:
        """`token` is the row's next one."""
        self._left -= 1
        if self._forced and self._forced[0] == token:
            self._forced.pop(0)
        ended = token in self._vocabulary.ends
        if ended or self.fault:
            self._left = 0
            return
        if self._answering:
            self._answer(token)
        if self._reasoning is not None:
            self._think(token)

    def _answer(self, token: int) -> None:
        matcher = self._matcher
        assert matcher is not None, "only a row with a grammar is answering"
        if self._may_think:
            self._may_think = False
            if self._thinking is not None and token == self._thinking.starter:
                self._answering = False
                return
            if self._grammar is not None and not self._grammar.whole:
                self._reasoning = None
        if self._next_way is not None:
            self._way, self._next_way = self._next_way, None
        elif self._way and self._way[0] == token:
            self._way = self._way[1:]
        if not matcher.consume_token(token):
            self.fault = "the grammar became too complex"

    def _think(self, token: int) -> None:
        reasoning, thinking = self._reasoning, self._thinking
        if reasoning is None or thinking is None:
            return
        turned = reasoning.feed(self._vocabulary.tokenizer.decode_bytes([token]))
        if turned and not reasoning.inside and self._matcher is not None and not self._answering:
            # The grammar takes over with what came in the same token as the end of the tag.
            self._answering, self._may_think, self._reasoning = True, False, None
            self._due = self._left
            tokens = self._vocabulary.tokenizer.tokenize_bytes(reasoning.rest)
            if reasoning.rest.strip() and not self._matcher.consume_tokens(tokens):
                self.fault = "the reasoning runs into the answer"
        if reasoning.inside:
            self._close_in_time()

    def _close_in_time(self) -> None:
        """Begin to close the tag when the budget, or the room for the answer, is used up."""
        reasoning, thinking = self._reasoning, self._thinking
        if reasoning is None or thinking is None or not reasoning.inside or self._forced:
            return
        spent = thinking.budget is not None and reasoning.used >= thinking.budget
        if not spent and self._left > self._answer_room(len(thinking.closers)):
            return
        # A tag in the middle of a character would leave half of it in the text.
        if not reasoning.whole and self._waited < PATIENCE:
            self._waited += 1
            return
        self._waited = 0
        self._forced = list(thinking.closers)

    def _answer_room(self, closing: int) -> int:
        """Tokens that must be left when the tag is closed at the latest."""
        if self._grammar is None or self._grammar.shortest is None:
            return 0
        more = min(MAX_ANSWER_ROOM, self._left // ANSWER_SHARE)
        return closing + PATIENCE + len(self._grammar.shortest) + more

    def _mask(self, matcher: LLMatcher) -> Mask:
        mask = self._vocabulary.allowed(matcher)
        if matcher.is_error():
            self.fault = "the grammar became too complex"
        starter = self._thinking.starter if self._thinking and self._may_think else None
        if starter is not None and self._left > self._answer_room(1) + 1:
            mask[starter] = True
        return mask

    def _must_close(self, matcher: LLMatcher) -> bool:
        """Look how far the end is when that is due; true when there is just enough room left."""
        grammar = self._grammar
        if not self._way or grammar is None or self._left > self._due:
            return False
        way = self._way
        if not self._vocabulary.closer.still_ends(matcher, way):
            found = self._vocabulary.closer.way(matcher, LONGEST, grammar.ends)
            if found is None or len(found) > self._left:
                self._due = self._left // 2
                return False
            self._way = way = found
        slack = self._left - len(way)
        if slack <= 0:
            return slack == 0
        steps = slack // (1 + grammar.growth)
        self.settles = steps == 0
        self._due = self._left - max(steps, 1)
        return False

    def _way_from(self, matcher: LLMatcher, token: int, longest: int) -> list[int] | None:
        """A way to the end from behind `token`; the known one where it still ends the answer."""
        known: Sequence[int] = self._way or ()
        closer = self._vocabulary.closer
        if known and known[0] == token:
            known = known[1:]
        if known and len(known) <= longest and closer.still_ends(matcher, known):
            return list(known)
        return closer.way(matcher, longest, self._grammar.ends if self._grammar else ())
