"""A request body, from bytes to a checked JSON object.

Everything that could make parsing slow, large or ambiguous is refused first: too many bytes, bytes
that decompress to too many, text that is not UTF-8, nesting and node counts, NaN, numbers that are
not finite, repeated keys. Halves of surrogate pairs are replaced: clients cut texts in the middle
of one, and send them again with every turn.

The `Content-Type` is not trusted to say what the body is: a missing one, `application/json`, any
`+json` and unknown types are read as JSON. Types that a web page can send to another site without
asking (forms and plain text) are refused, so that no page can make a browser call this server.
"""

import asyncio
import json
import re
import zlib
from collections.abc import Callable
from itertools import accumulate
from typing import Any, NoReturn, TypeVar

import msgspec
from quart.wrappers.request import Body

from mlxd.api.dialect import JsonObject
from mlxd.errors import BodyTooLarge, InvalidBody, Overloaded

MAX_DEPTH = 64
"""Arrays and objects inside each other."""
MAX_NODES = 100_000
"""Values of all kinds, keys not counted."""
BIG = 256 * 1024
"""Bytes from which a body is parsed in a thread, so that others get turns meanwhile."""
INFLATE_STEP = 1024 * 1024
"""Bytes decompressed between two turns of the event loop."""

T = TypeVar("T")

FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data", "text/plain")

_NOT_STRUCTURE = bytes(set(range(256)) - set(b"{}[],"))
_NESTING = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1, ord(","): 0}
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")


class BodyBudget:
    """Bytes of all bodies that are being received or parsed, together."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def take(self, count: int) -> None:
        """Raises `Overloaded` when that would be too much."""
        if self.held + count > self._limit:
            raise Overloaded(reason="Too many request bodies are being received at once.")
        self.held += count

    def give(self, count: int) -> None:
        """What was taken is free again."""
        self.held -= count


class CountedBody(Body):
    """Quart's body that keeps to a budget; `release` frees memory and budget early."""

    def __init__(self, expected: int | None, limit: int | None, budget: BodyBudget) -> None:
        super().__init__(expected, limit)
        self._budget = budget
        self._held = 0
        self._released = False

    def take(self, count: int) -> None:
        """Hold `count` bytes more of the budget, until `release`."""
        self._budget.take(count)
        self._held += count

    def append(self, data: bytes) -> None:
        if self._released or self._must_raise is not None:
            return
        try:
            self.take(len(data))
        except Overloaded as error:
            self._must_raise = error
            self.set_complete()
        else:
            super().append(data)

    def release(self) -> None:
        """Drop the bytes; later ones are dropped as they come."""
        self._released = True
        self.clear()
        self._budget.give(self._held)
        self._held = 0


def check_type(content_type: str) -> None:
    """Raises `InvalidBody` for what a web page may send anywhere without being allowed to."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind in FORM_TYPES:
        raise InvalidBody(f"its Content-Type is '{kind}'; send 'application/json'.")


async def in_turns(size: int, work: Callable[[], T]) -> T:
    """The result of `work` on a body of `size` bytes, which must not keep others waiting."""
    return work() if size < BIG else await asyncio.to_thread(work)


def parse_json(data: bytes, repaired: list[str] | None = None) -> JsonObject:
    """The JSON object in `data`; raises `InvalidBody`.

    `repaired` gets the places of strings that held half of a surrogate pair.
    """
    if not data:
        raise InvalidBody(InvalidBody.EMPTY)
    if data.startswith(b"\xef\xbb\xbf"):
        raise InvalidBody("it begins with a byte order mark.")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise InvalidBody(f"it is not UTF-8 at byte {error.start}.") from None
    check_size(data)
    try:
        value = _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise InvalidBody(f"{error.msg} at line {error.lineno}, column {error.colno}.") from None
    except ValueError:
        # Python refuses integers of more than 4,300 digits: reading them takes quadratic time.
        raise InvalidBody("a number has too many digits.") from None
    if not isinstance(value, dict):
        raise InvalidBody("it is not a JSON object.")
    if _SURROGATE.search(text):
        # Half a pair is no text: the first encoder behind here would fail on it.
        try:
            msgspec.json.encode(value)
        except UnicodeEncodeError:
            value = _repaired(value, "", [] if repaired is None else repaired)
    assert isinstance(value, dict), "what is no object was refused"
    return value


def _repaired(value: Any, place: str, found: list[str]) -> Any:
    """`value` with U+FFFD for each half of a pair, as Unicode advises; `found` gets the places."""
    match value:
        case str() if _HALF.search(value):
            found.append(place)
            return _HALF.sub("\ufffd", value)
        case list():
            return [_repaired(item, f"{place}[{n}]", found) for n, item in enumerate(value)]
        case dict():
            inside = f"{place}." if place else ""
            return _object(
                [
                    (_repaired(key, place, found), _repaired(item, f"{inside}{key}", found))
                    for key, item in value.items()
                ]
            )
    return value


def check_size(data: bytes) -> None:
    """Raises `InvalidBody` if `data` is JSON with too many values or too deep nesting.

    A few passes over the bytes in C, without parsing: strings are cut out, and what is left of the
    rest are brackets and commas. Malformed JSON is counted up to its first fault at least, which is
    as far as the parser will go.
    """
    if b"\\" in data:
        # Pairs of backslashes first: then each that is left before a quote escapes it.
        data = data.replace(b"\\\\", b"").replace(b'\\"', b"")
    # Each string is a value or the key of one.
    if data.count(b'"') > 4 * MAX_NODES:
        raise InvalidBody(f"it has more than {MAX_NODES} values.")
    structure = b"".join(data.split(b'"')[::2]).translate(None, _NOT_STRUCTURE)
    if structure.count(b",") + structure.count(b"[") + structure.count(b"{") > MAX_NODES:
        raise InvalidBody(f"it has more than {MAX_NODES} values.")
    if max(accumulate(map(_NESTING.__getitem__, structure)), default=0) > MAX_DEPTH:
        raise InvalidBody(f"it is nested more than {MAX_DEPTH} levels deep.")


async def inflate(data: bytes, encoding: str, *, limit: int, body: CountedBody) -> bytes:
    """`data` without its content encoding; every byte is held by `body` before it is made."""
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return data
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise InvalidBody("its Content-Encoding is not one of gzip, deflate, identity.")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS if _is_bare(data) else zlib.MAX_WBITS | 32)
    unpacked = bytearray()
    try:
        while data and not unpacker.eof:
            # Before it is made: a few bytes can be compressed from more than there is memory.
            body.take(min(INFLATE_STEP, limit + 1 - len(unpacked)))
            unpacked += unpacker.decompress(data, INFLATE_STEP)
            data = unpacker.unconsumed_tail
            if len(unpacked) > limit:
                raise BodyTooLarge(limit)
            # Others get their turn: a large body takes as long as many tokens.
            await asyncio.sleep(0)
    except zlib.error:
        raise InvalidBody("it is not what its Content-Encoding says.") from None
    if not unpacker.eof or unpacker.unused_data:
        raise InvalidBody("its compressed data does not end where the body ends.")
    return bytes(unpacked)


def _is_bare(data: bytes) -> bool:
    """Whether deflated data has neither a gzip nor a zlib header."""
    begin = int.from_bytes(data[:2])
    has_zlib_header = begin >> 8 & 0x0F == 8 and begin % 31 == 0
    return not has_zlib_header and begin != 0x1F8B


def _object(pairs: list[tuple[str, Any]]) -> JsonObject:
    # Which of two equal keys counts differs between parsers, and a proxy may have read the other.
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise InvalidBody(f"the key {key[:64]!r} appears twice in one object.")
        seen.add(key)
    raise AssertionError("unreachable: fewer keys than pairs means a repeated key")


def _float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise InvalidBody("a number is too large.")
    return value


def _constant(name: str) -> NoReturn:
    raise InvalidBody(f"{name} is not JSON.")


_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_float=_float, parse_constant=_constant)
