"""The texts of an answer as the one string that some APIs have for all of them."""

from collections.abc import Iterable


def seam(before: str, text: str) -> str:
    """What parts a text from one that ended in `before`, as one string holds them all."""
    return "" if not before or before.isspace() or text[0].isspace() else "\n\n"


def joined(texts: Iterable[str]) -> str:
    """All texts of an answer as one."""
    whole = ""
    for text in filter(None, texts):
        whole += seam(whole[-1:], text) + text
    return whole
