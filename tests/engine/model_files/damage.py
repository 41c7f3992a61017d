"""Ways to spoil a model's folder."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save_file

Damage = Callable[[Path], object]
NORM = "model.norm.weight"
HARM = "import pathlib; pathlib.Path(__file__).with_name('harm').touch()\n"


def edit(name: str, **changes: Any) -> Damage:
    """Set keys of a JSON file; a value of None takes the key out."""

    def damage(folder: Path) -> None:
        value = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        value = {key: item for key, item in (value | changes).items() if item is not None}
        (folder / name).write_text(json.dumps(value))

    return damage


def write(name: str, data: bytes) -> Damage:
    return lambda folder: (folder / name).write_bytes(data)


def remove(name: str) -> Damage:
    return lambda folder: (folder / name).unlink()


def cut(name: str, keep: float) -> Damage:
    def damage(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * keep)])

    return damage


def weights(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change the tensors of the weights file."""

    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def header(change: Callable[[dict[str, Any]], object]) -> Damage:
    """Change the header of the weights file and leave the data as it is."""

    def damage(folder: Path) -> None:
        path = folder / "model.safetensors"
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        value = json.loads(data[8 : 8 + length])
        change(value)
        text = json.dumps(value).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return damage


def code_file(name: str) -> Damage:
    return write(name, HARM.encode())


def both(*damages: Damage) -> Damage:
    return lambda folder: [damage(folder) for damage in damages]


def link(name: str, target: str) -> Damage:
    def damage(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return damage
