"""Screens that are compared with those of before, as text or as SVG."""

from pathlib import Path

FOLDER = Path(__file__).with_name("golden")


def compare(name: str, text: str, update: bool, *, kind: str = "txt") -> None:
    """Hold `text` against the file of that name, or make it the file's."""
    file = FOLDER / f"{name}.{kind}"
    if update:
        FOLDER.mkdir(exist_ok=True)
        file.write_text(text + "\n", encoding="utf-8")
    assert text + "\n" == file.read_text(encoding="utf-8")
