"""Text files that go into a prompt, below its question: `@path` in it, or `/file PATH`."""

import re
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 1_000_000
"""Larger files are refused."""
NAMED = re.compile(r'(?<!\S)@(?:"([^"\n]+)"|([^\s"]+))')
PICTURES = frozenset((".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tiff", ".heic"))
PICTURE = "is a picture, and no model here sees pictures"


class AttachmentError(Exception):
    """A file can't go into a prompt; its text says why."""


class Attachment(NamedTuple):
    """A file's text, under the name that was written."""

    name: str
    text: str
    size: int


def read(name: str) -> Attachment:
    """The file of this name; raises `AttachmentError`."""
    path = Path(name)
    try:
        path = path.expanduser()
        if path.is_dir():
            raise AttachmentError(f"{name} is a folder; name its files.")
        if path.suffix.lower() in PICTURES:
            raise AttachmentError(f"{name} {PICTURE}.")
        if not path.is_file():
            # A pipe or a device might never end.
            path.stat()
            raise AttachmentError(f"{name} is no file.")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).rstrip(".")
        raise AttachmentError(f"{name} can't be read: {reason}.") from None
    if len(data) > MAX_BYTES:
        raise AttachmentError(f"{name} is larger than {MAX_BYTES // 1_000_000} MB.")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise AttachmentError(f"{name} is no text in UTF-8.")
    return Attachment(name, text, len(data))


def named_in(question: str) -> list[str]:
    """The files that a question names as `@path`, where they are there; an address is none."""
    names = [found[1] or found[2].rstrip(",;:!?") for found in NAMED.finditer(question)]
    # `@name` may be anybody: what is no file, and looks like none, is text.
    return [name for name in dict.fromkeys(names) if _exists(name) or "/" in name]


def _exists(name: str) -> bool:
    try:
        return Path(name).expanduser().exists()
    except (OSError, RuntimeError, ValueError):
        return False


def with_files(question: str, files: list[Attachment]) -> str:
    """The prompt: the question, and below it each file with its name."""
    return "\n\n".join([question, *(_fenced(file) for file in files)])


def _fenced(file: Attachment) -> str:
    # Longer than any in the text, which so can't end it.
    ticks = max((len(run) for run in re.findall(r"`{3,}", file.text)), default=2) + 1
    fence = "`" * max(3, ticks)
    return f"{file.name}:\n{fence}\n{file.text.rstrip(chr(10))}\n{fence}"


def size_in_words(number: int) -> str:
    """A size: `812 B`, `3.4 KB`."""
    return f"{number} B" if number < 1000 else f"{number / 1000:.1f} KB"
