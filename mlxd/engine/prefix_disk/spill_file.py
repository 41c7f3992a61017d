"""One file of a prefix on the disk: its name, its bytes, and the seal over them. Pure.

    MAGIC, seal, length of the header, header (MessagePack), the arrays' bytes

Nothing of a file is parsed before its seal was checked. The seal is made with the folder's key, so
that no other program's file, and none that was moved to another name, is ever used.
"""

import hashlib
import hmac
import re
import struct
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Self, cast

import msgspec

FORMAT = 1
"""Part of a model's fingerprint: files of another format are never looked at."""
MAGIC = b"mlxd-kv\n"
ID_CHARS = 32
"""Hexadecimal digits of a name's ids: 128 bits."""

SpillKind = Literal["kv", "window", "state", "answer"]
Buffer = bytes | bytearray | memoryview

_LENGTH = struct.Struct("<I")
_SEAL = hashlib.sha256().digest_size
_ID = f"[0-9a-f]{{{ID_CHARS}}}"
_NAME = re.compile(rf"({_ID})-({_ID})-([0-9]{{1,9}})\.(kv|window|state|answer)", re.ASCII)
FOLDER = re.compile(_ID, re.ASCII)


class DamagedPrefix(Exception):
    """A file does not hold what was written to it."""


class SpillFile(NamedTuple):
    """A file by its name alone: `length` tokens that end at the position `end`.

    Ids are of positions: of all tokens before them, for one model and one owner. `start` is where
    the tokens begin; a state, which can't be cut, begins where it ends. An answer has all tokens up
    to its end, and is found by `start`, the id of the prompt that it answers.
    """

    model: str
    scope: str
    kind: SpillKind
    end: str
    start: str
    length: int

    @property
    def place(self) -> str:
        """Below the folder of all prefixes."""
        return f"{self.model}/{self.scope}/{self.name}"

    @property
    def name(self) -> str:
        return f"{self.end}-{self.start}-{self.length}.{self.kind}"

    @classmethod
    def named(cls, model: str, scope: str, name: str) -> Self | None:
        """The file of that name; None where it is no name of ours."""
        found = _NAME.fullmatch(name)
        if found is None:
            return None
        end, start, length, kind = found.groups()
        return cls(model, scope, cast(SpillKind, kind), end, start, int(length))


class ArrayForm(msgspec.Struct, frozen=True, array_like=True):
    """How an array's bytes are read."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class SpillHeader(msgspec.Struct, frozen=True):
    """What stands before the arrays.

    `tokens` are those of the stretch, 4 bytes each; `layers` says which array is what in a state.
    `note` is what others want to find again with these tokens.
    """

    place: str
    tokens: bytes
    arrays: tuple[ArrayForm, ...]
    layers: Any = None
    note: bytes = b""


class SpillData(NamedTuple):
    """A file that was read and is whole."""

    header: SpillHeader
    arrays: list[memoryview]


class PositionIds:
    """Names a position by all tokens before it, for one folder's key, model and owner."""

    def __init__(self, key: bytes, model: str, scope: str) -> None:
        self._hash = hmac.new(key, f"position\n{model}\n{scope}\n".encode(), "sha256")

    def after(self, tokens: Buffer) -> "PositionIds":
        """Of the position that so many bytes of tokens lie behind this one."""
        later = object.__new__(PositionIds)
        later._hash = self._hash.copy()
        later._hash.update(tokens)
        return later

    @property
    def id(self) -> str:
        return self._hash.hexdigest()[:ID_CHARS]

    def of_prompt(self, name: bytes) -> str:
        """The id of a prompt by what its answers are found by; of the first position's."""
        # Of no length that tokens have.
        return self.after(b"prompt\n" + name + bytes(len(name) % 2)).id


def scope_id(key: bytes, owner: str) -> str:
    """Names an owner's folder, which says nothing about the owner."""
    return hmac.new(key, f"owner\n{owner}".encode(), "sha256").hexdigest()[:ID_CHARS]


def packed(key: bytes, header: SpillHeader, arrays: Sequence[Buffer]) -> list[Buffer]:
    """A file's content, in pieces that are written one after the other."""
    head = msgspec.msgpack.encode(header)
    pieces: list[Buffer] = [_LENGTH.pack(len(head)), head, *arrays]
    return [MAGIC, _seal(key, pieces), *pieces]


def unpacked(
    key: bytes, content: bytes | bytearray, place: str, tokens: bytes | None = None
) -> SpillData:
    """What a file holds; raises `DamagedPrefix` unless it was written as `place`, of `tokens`."""
    view = memoryview(content)
    at = len(MAGIC) + _SEAL
    if len(view) < at + _LENGTH.size or view[: len(MAGIC)] != MAGIC:
        raise DamagedPrefix("it is no file of prefixes")
    if not hmac.compare_digest(view[len(MAGIC) : at], _seal(key, [view[at:]])):
        raise DamagedPrefix("its seal does not fit")
    (length,) = _LENGTH.unpack_from(view, at)
    at += _LENGTH.size
    header = msgspec.msgpack.decode(view[at : at + length], type=SpillHeader)
    if header.place != place:
        raise DamagedPrefix("it was written under another name")
    if tokens is not None and header.tokens != tokens:
        raise DamagedPrefix("it is of other tokens")
    at, arrays = at + length, []
    for form in header.arrays:
        arrays.append(view[at : at + form.nbytes])
        at += form.nbytes
    return SpillData(header, arrays)


def _seal(key: bytes, pieces: Sequence[Buffer]) -> bytes:
    # Not an HMAC of all: hashing large pieces lets other threads go on, for certain.
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return hmac.digest(key, digest.digest(), "sha256")
