"""A model's folder, judged before anything in it is loaded.

MLX checks little of what it reads and a model's files may come from strangers. Whatever is wrong
is raised as `ModelUnusable` with the name of the file, never its path. Nothing here imports MLX.
"""

import json
import math
import os
import re
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlxd.engine.model_files.model_types import unsupported
from mlxd.errors import ModelUnusable

MAX_JSON = 256 * 1024 * 1024
"""Bytes of a JSON file of a model; the largest tokenizers have about 40 MB."""
MAX_HEADER = 100 * 1024 * 1024
"""Bytes of a safetensors header, as the format itself limits it."""
MAX_FILES = 10_000
MAX_SIDES, MAX_SIDE = 16, 2**48
"""Dimensions of a tensor, and the size of one."""
WEIGHTS = "model*.safetensors"
"""The files that mlx-lm reads weights from."""
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tiktoken.model", "vocab.json", "vocab.txt")
FOREIGN_WEIGHTS = (".bin", ".gguf", ".npz", ".pt", ".pth", ".ckpt", ".pkl")
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64", "C64"), 8),
}

PairsHook = Callable[[list[tuple[str, Any]]], dict[str, Any]]


class Unusable(Exception):
    """One file's fault, in words that name the file; `check` adds the model."""


def check(folder: Path, model: str, *, trust_remote_code: bool = False) -> None:
    """Raise `ModelUnusable` unless `folder` holds a whole model in mlx-lm's format."""
    try:
        _check_entries(folder)
        _check_config(folder, trust_remote_code)
        _check_tokenizer(folder)
        _check_weights(folder)
    except Unusable as fault:
        raise ModelUnusable(model, str(fault)) from None
    except OSError as error:
        name = Path(str(error.filename or "a file")).name
        raise ModelUnusable(model, f"{name} can't be read ({error.strerror})") from None


def weight_files(folder: Path) -> list[Path]:
    """The files with weights, by name."""
    return sorted(folder.glob(WEIGHTS))


def read_object(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object; raises `Unusable`."""
    if path.stat().st_size > MAX_JSON:
        raise Unusable(f"{path.name} is too large")
    return _parse_object(path.read_bytes(), path.name)


def _check_entries(folder: Path) -> None:
    """Regular files only, and no link out of the folder but to what people share among folders."""
    if not folder.is_dir():
        raise Unusable("its folder is missing")
    homes = [folder.resolve()]
    if folder.parent.name == "snapshots":
        homes.append((folder.parent.parent / "blobs").resolve())
    entries = (
        Path(parent) / name
        for parent, folders, files in os.walk(folder, followlinks=False)
        for name in (*folders, *files)
    )
    for count, path in enumerate(entries):
        if count >= MAX_FILES:
            raise Unusable("its folder holds too many files")
        try:
            target = path.resolve(strict=True)
        except (OSError, RuntimeError):
            raise Unusable(f"{path.name} is a link that leads nowhere") from None
        inside = any(target.is_relative_to(home) for home in homes)
        if not inside and not _is_shared(path, target):
            raise Unusable(f"{path.name} is a link to a place outside of the model's folder")
        # Reading a pipe or a device may never end.
        mode = target.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise Unusable(f"{path.name} is not a regular file")


def _is_shared(path: Path, target: Path) -> bool:
    """Whether a link leads to weights, or to a file of the hub's cache: never to a secret."""
    blobs = target.parent
    cached = blobs.name == "blobs" and blobs.parent.name.startswith("models--")
    return cached or path.suffix == target.suffix == ".safetensors"


def _check_config(folder: Path, trust_remote_code: bool) -> None:
    if not (folder / "config.json").is_file():
        raise Unusable("config.json is missing")
    config = read_object(folder / "config.json")
    # mlx-lm makes a module's name of it and imports that.
    kind = config.get("model_type")
    if not isinstance(kind, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", kind):
        raise Unusable("config.json has no usable model_type")
    if (code := config.get("model_file")) is not None and not trust_remote_code:
        raise Unusable(
            f"config.json asks to run code of its own ({Path(str(code)).name!r}); "
            "set trust_remote_code for a model that you trust as a program"
        )
    if code is None and (reason := unsupported(kind)):
        raise Unusable(reason)


def _check_tokenizer(folder: Path) -> None:
    names = [name for name in TOKENIZERS if (folder / name).is_file()]
    if not names and not any(folder.glob("*.tiktoken")):
        raise Unusable("it has no tokenizer (tokenizer.json)")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if (folder / name).exists():
            read_object(folder / name)


def _check_weights(folder: Path) -> None:
    files = weight_files(folder)
    if not files:
        foreign = sorted(path.name for path in folder.iterdir() if path.suffix in FOREIGN_WEIGHTS)
        found = f"; weights in other formats, such as {foreign[0]}, are not read" if foreign else ""
        raise Unusable(f"it has no {WEIGHTS} with weights{found}")
    tensors = {path.name: _tensor_names(path) for path in files}
    _check_shards([path.name for path in files])
    index = folder / "model.safetensors.index.json"
    if index.exists():
        _check_index(read_object(index), tensors)


def _check_shards(names: list[str]) -> None:
    """Files that call themselves one of N need the other N - 1."""
    for name in names:
        if found := re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.safetensors", name):
            # The file's name may claim a hundred thousand.
            for number in range(1, min(int(found[3]), MAX_FILES) + 1):
                shard = f"{found[1]}-{number:05}-of-{found[3]}.safetensors"
                if shard not in names:
                    raise Unusable(f"{shard} is missing")


def _check_index(index: dict[str, Any], tensors: dict[str, set[str]]) -> None:
    where = index.get("weight_map")
    if not isinstance(where, dict):
        raise Unusable("model.safetensors.index.json has no weight_map")
    for tensor, shard in where.items():
        if not isinstance(shard, str) or shard != Path(shard).name:
            raise Unusable("model.safetensors.index.json names a file that is no file's name")
        if shard not in tensors:
            raise Unusable(f"{shard} is missing")
        if tensor not in tensors[shard]:
            raise Unusable(f"{shard} lacks a tensor that the index says it has")


def _tensor_names(path: Path) -> set[str]:
    """The names in a safetensors file whose header describes exactly the bytes that follow."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
        if not 2 <= length <= min(MAX_HEADER, size - 8):
            raise Unusable(f"{path.name} is not a whole safetensors file")
        header = _parse_object(file.read(length), path.name, hook=_no_duplicates)
    # MLX writes null where it was given no metadata.
    metadata = {} if (given := header.pop("__metadata__", {})) is None else given
    texts = isinstance(metadata, dict) and all(isinstance(text, str) for text in metadata.values())
    if not texts:
        raise Unusable(f"{path.name} has a damaged header")
    spans = sorted(_span(entry, path.name) for entry in header.values())
    end = 0
    for first, last in spans:
        if first != end:
            raise Unusable(f"{path.name} has tensors that overlap or leave a gap")
        end = last
    if end != size - 8 - length:
        raise Unusable(f"{path.name} is cut off or has bytes that belong to no tensor")
    return set(header)


def _span(entry: object, name: str) -> tuple[int, int]:
    """Where a tensor's bytes begin and end; they must be as many as its shape and type need."""
    match entry:
        case {"dtype": str(dtype), "shape": [*shape], "data_offsets": [int(first), int(last)]}:
            if dtype not in ITEM_BYTES:
                raise Unusable(f"{name} has a tensor of an unknown type")
            sizes = [side for side in shape if type(side) is int and 0 <= side <= MAX_SIDE]
            whole = len(sizes) == len(shape) <= MAX_SIDES and 0 <= first <= last
            if whole and math.prod(sizes) * ITEM_BYTES[dtype] == last - first:
                return first, last
    raise Unusable(f"{name} has a damaged header")


def _parse_object(data: bytes, name: str, *, hook: PairsHook = dict) -> dict[str, Any]:
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=hook)
    except (ValueError, RecursionError):
        raise Unusable(f"{name} is not valid JSON") from None
    if not isinstance(value, dict):
        raise Unusable(f"{name} does not hold a JSON object")
    return value


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a name occurs twice")
    return value
