"""Conversations in files: Markdown where the name ends in .md, JSON otherwise."""

import os
from pathlib import Path

from mlxd.tui.chat.transcript import (
    MAX_FILE,
    Transcript,
    TranscriptError,
    from_json,
    from_markdown,
    to_json,
    to_markdown,
)

MARKDOWN = (".md", ".markdown")


def save(transcript: Transcript, name: str, *, overwrite: bool) -> Path:
    """Write a transcript, readable by its owner alone; raises `TranscriptError` in words."""
    path = Path(name)
    text = to_markdown(transcript) if path.suffix.lower() in MARKDOWN else to_json(transcript)
    try:
        path = path.expanduser()
        flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise TranscriptError(f"{path} exists; /save! overwrites it.") from None
    except (OSError, RuntimeError, ValueError) as error:
        raise TranscriptError(f"{name} can't be written: {_reason(error)}.") from None
    return path


def load(name: str) -> Transcript:
    """Read a transcript; raises `TranscriptError` in words."""
    try:
        with Path(name).expanduser().open("rb") as file:
            data = file.read(MAX_FILE + 1)
    except (OSError, RuntimeError, ValueError) as error:
        raise TranscriptError(f"{name} can't be read: {_reason(error)}.") from None
    if len(data) > MAX_FILE:
        raise TranscriptError(f"{name} is longer than {MAX_FILE} bytes.")
    text = data.decode("utf-8-sig", "replace")
    try:
        if Path(name).suffix.lower() in MARKDOWN:
            return from_markdown(text)
        return from_json(text)
    except TranscriptError as error:
        raise TranscriptError(f"{name} can't be loaded: {error}.") from None


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).rstrip(".")
