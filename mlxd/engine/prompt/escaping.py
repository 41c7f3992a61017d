"""Callers' text stays text: a control token's name in it never becomes the control token.

Before rendering, each occurrence is replaced by one character that no text contains. After
rendering those characters are put back, encoded as plain characters. A request without any
occurrence is encoded in one call.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

from mlxd.errors import ContextTooLong, InvalidField

PLACEHOLDERS = range(0xF0000, 0xFFFFE)
"""Code points of a private plane that stand for what was replaced."""
PRIVATE = "\ue000\ue001\U000f0000-\U0010ffff"
"""Characters that have a meaning here, as a class; a caller's own are replaced too."""
SURROGATES = "\ud800-\udfff"


def control_tokens(tokenizer: Any, template: str, *others: str) -> frozenset[str]:
    """The texts that steer the model: special tokens, and added ones that prompts are made of.

    Those stand in the template or in `others`; without a template's text all added tokens count.
    Added tokens of white space never do.
    """
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    written = "\n".join((template, *others))
    texts = {
        token.content
        for token in added
        if token.special or not template or token.content in written
    }
    texts.update(getattr(tokenizer, "all_special_tokens", ()))
    return frozenset(text for text in texts if text.strip())


class Escaper:
    """Replaces control texts in one request's texts; `restore` knows what each one was."""

    def __init__(self, pattern: re.Pattern[str]) -> None:
        self._pattern = pattern
        self._placeholders: dict[str, str] = {}

    @property
    def used(self) -> bool:
        """Whether anything was replaced."""
        return bool(self._placeholders)

    def text(self, text: str) -> str:
        """`text` with control texts replaced; raises `InvalidField` where there are too many."""
        return self._pattern.sub(self._replace, text)

    def value(self, value: Any) -> Any:
        """A JSON value with all its texts and names treated by `text`."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(name): self.value(item) for name, item in value.items()}
            case list():
                return [self.value(item) for item in value]
        return value

    def restore(self) -> dict[str, str]:
        """What each placeholder stands for."""
        return {placeholder: text for text, placeholder in self._placeholders.items()}

    def _replace(self, found: re.Match[str]) -> str:
        text = found[0]
        if "\ud800" <= text <= "\udfff":
            # Inside of a call's arguments, which are JSON of their own; elsewhere there are none.
            return "\ufffd"
        if len(self._placeholders) >= len(PLACEHOLDERS):
            raise InvalidField("messages", "value", "The texts hold too many private characters.")
        return self._placeholders.setdefault(text, chr(PLACEHOLDERS[len(self._placeholders)]))


class PlainEncoder:
    """Encodes rendered prompts with one model's tokenizer."""

    def __init__(self, tokenizer: Any, controls: Iterable[str]) -> None:
        self._tokenizer = tokenizer
        controls = frozenset(controls)
        self._pattern = re.compile(
            "|".join(filter(None, (_any_of(controls), f"[{PRIVATE}]", f"[{SURROGATES}]")))
        )
        self._split = re.compile(f"([{PRIVATE}])")
        self._control_ids = {tokenizer.convert_tokens_to_ids(text) for text in controls}
        # Some tokenizers treat the beginning of a text unlike its middle: a piece from inside is
        # then encoded behind a line break, whose tokens are taken off again.
        newline, after = self._ids("\n"), self._ids("\na")
        joins = after[: len(newline)] != newline or after[len(newline) :] == self._ids("a")
        self._newline = [] if joins else newline
        self._backend = self._trusted_backend()
        self._plain: dict[str, list[int]] = {}

    def escaper(self) -> Escaper:
        """A fresh one for one request."""
        return Escaper(self._pattern)

    def first_control(self, text: str) -> str:
        """The first control text in `text`, empty if there is none."""
        found = self._pattern.search(text)
        return found[0] if found else ""

    def count(self, text: str) -> int:
        """About as many tokens as a piece from inside of a text has."""
        return len(self._piece(text, (), begins=True)[0])

    def encode(
        self,
        text: str,
        marks: Sequence[int],
        restore: Mapping[str, str],
        *,
        begins: bool = True,
        limit: int | None = None,
    ) -> tuple[list[int], list[int]]:
        """Token ids of a rendered text, and for each mark the token that begins there.

        `marks` are positions in `text`, rising; a mark inside of a token is the token's beginning.
        `begins` is false for a text from the inside of another.
        Raises `ContextTooLong` once there are more tokens than `limit`.
        """
        assert all(one <= other for one, other in pairwise(marks)), "marks rise"
        ids: list[int] = []
        cuts: list[int] = []
        at = 0
        for number, piece in enumerate(self._split.split(text) if restore else [text]):
            here = [mark - at for mark in marks[len(cuts) :] if mark - at < len(piece)]
            if number % 2:
                found, inside = self._plain_ids(restore.get(piece, piece)), [0] * len(here)
            else:
                found, inside = self._piece(piece, here, begins=begins and at == 0)
            cuts += [len(ids) + cut for cut in inside]
            ids += found
            at += len(piece)
            if limit is not None and len(ids) > limit:
                raise ContextTooLong(len(ids) * len(text) // at, limit)
        return ids, cuts + [len(ids)] * (len(marks) - len(cuts))

    def _piece(
        self, piece: str, marks: Sequence[int], *, begins: bool
    ) -> tuple[list[int], list[int]]:
        """Ids and marks of a piece without placeholders."""
        if not piece:
            return [], []
        lead = "" if begins or not self._newline else "\n"
        skip = len(self._newline) if lead else 0
        if self._backend is None:
            ids = self._ids(lead + piece)
            heads = (self._ids(lead + piece[:mark]) for mark in marks)
            cuts = [len(os.path.commonprefix([head, ids])) for head in heads]
        else:
            # Of one text it would hold the GIL to the end, and no stream would move meanwhile.
            (encoding,) = self._backend.encode_batch([lead + piece], add_special_tokens=False)
            ids = list(encoding.ids)
            cuts = [_token_at(encoding, mark + len(lead), len(lead + piece)) for mark in marks]
        if lead and ids[:skip] != self._newline:
            return self._piece(piece, marks, begins=True)
        return ids[skip:], [max(cut - skip, 0) for cut in cuts]

    def _plain_ids(self, text: str) -> list[int]:
        """The ids of a control text as the characters it is written with."""
        if text not in self._plain:
            ids: list[int] = []
            # Cut behind its first character, no tokenizer sees a control text; some see another.
            for piece in (text[:1], text[1:]):
                ids += self._piece(piece, (), begins=False)[0]
            if not self._control_ids.isdisjoint(ids):
                ids = [id_ for char in text for id_ in self._piece(char, (), begins=False)[0]]
            # A control text of one character has no other form; it is left out.
            self._plain[text] = [id_ for id_ in ids if id_ not in self._control_ids]
        return self._plain[text]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))

    def _trusted_backend(self) -> Any:
        """The tokenizer's fast half, which has the tokens' positions, if both encode alike.

        The other half may treat a text before or after; the sample has what such code touches.
        """
        backend: Any = getattr(self._tokenizer, "backend_tokenizer", None)
        sample = " A line,\n\n\tthen\r\n  another: <b>1234</b> \u00e9\u4e16\U0001f600 "
        if not hasattr(backend, "encode"):
            return None
        encoding = backend.encode(sample, add_special_tokens=False)
        return backend if list(encoding.ids) == self._ids(sample) else None


def _token_at(encoding: Any, mark: int, end: int) -> int:
    """The token that holds the character at `mark`, or the next one that any token holds."""
    for position in range(mark, min(mark + 16, end)):
        token = encoding.char_to_token(position)
        if token is not None:
            return int(token)
    return len(encoding.ids)


def _any_of(words: Iterable[str]) -> str:
    """A pattern for the longest of `words` at a place, as a tree: models have thousands."""
    tree: dict[str, Any] = {}
    for word in words:
        node = tree
        for char in word:
            node = node.setdefault(char, {})
        node[""] = {}
    return _branches(tree)


def _branches(node: dict[str, Any]) -> str:
    prefix = ""
    while len(node) == 1 and "" not in node:
        ((char, node),) = node.items()
        prefix += re.escape(char)
    options = [re.escape(char) + _branches(child) for char, child in node.items() if char]
    if not options:
        return prefix
    optional = "?" if "" in node else ""
    return f"{prefix}(?:{'|'.join(options)}){optional}"
