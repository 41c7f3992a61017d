"""Bodies: what is read, what is refused, and that refusing is quick and leaves nothing behind."""

import json
import random
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from mlxd.api.http.body import MAX_DEPTH, MAX_NODES, check_size, parse_json
from mlxd.errors import InvalidBody
from tests.api.support import HELLO, error_of, front
from tests.scripts import SCRIPTS

MIB = 1024 * 1024
GOOD = json.dumps({"messages": HELLO}).encode()
LAST = b'"messages":[{"role":"user","content":"Hello"}]}'

HOSTILE: dict[str, bytes] = {
    "empty": b"",
    "blank": b" \n\t",
    "null": b"null",
    "true": b"true",
    "number": b"1",
    "string": b'"x"',
    "array": b"[]",
    "array of objects": b"[" + GOOD + b"]",
    "open brace": b"{",
    "open string": b'{"a',
    "open escape": b'{"a\\',
    "no value": b'{"a":}',
    "no colon": b'{"a" 1}',
    "trailing comma": b'{"a":1,}',
    "two objects": GOOD + GOOD,
    "trailing text": GOOD + b" x",
    "trailing NUL": GOOD + b"\0",
    "comment": b"/* hi */" + GOOD,
    "single quotes": b"{'messages':[]}",
    "unquoted key": b"{messages:[]}",
    "leading zero": b'{"n":01}',
    "plus sign": b'{"n":+1}',
    "hexadecimal": b'{"n":0x10}',
    "bare dot": b'{"n":.5}',
    "NaN": b'{"temperature":NaN}',
    "Infinity": b'{"temperature":Infinity}',
    "minus Infinity": b'{"temperature":-Infinity}',
    "decimal beyond range": b'{"temperature":1e400}',
    "negative decimal beyond range": b'{"temperature":-1e400}',
    "5,000 digits": b'{"n":' + b"9" * 5000 + b"}",
    "control character in string": b'{"a":"\x01"}',
    "newline in string": b'{"a":"\n"}',
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-16 without mark": GOOD.decode().encode("utf-16-le"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "Latin-1": b'{"a":"\xe9"}',
    "overlong UTF-8": b'{"a":"\xc0\xaf"}',
    "UTF-8 of a surrogate": b'{"a":"\xed\xa0\x80"}',
    "cut UTF-8": b'{"a":"\xf0\x9f\x98"}',
    "keys that halves of pairs make the same": b'{"a":{"\\ud800":1,"\\ud801":2}}',
    "key twice": b'{"a":1,"a":2}',
    "key twice, once escaped": b'{"a":1,"\\u0061":2}',
    "key twice, deep inside": b'{"a":[{"b":{"c":1,"c":1}}]}',
    "arrays 65 deep": b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    "objects 65 deep": b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1),
    "a million open arrays": b"[" * 1_000_000,
    "many numbers": b'{"a":[' + b"1," * MAX_NODES + b"1]}",
    "many strings": b'{"a":[' + b'"",' * MAX_NODES + b'""]}',
    "many keys": b"{" + b",".join(b'"%d":1' % i for i in range(MAX_NODES + 1)) + b"}",
    "many quotes": b'"' * (5 * MAX_NODES),
}


SERVER = front(*SCRIPTS["text"])


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_body_is_refused_by_name_and_the_next_request_works(name: str) -> None:
    error = await error_of(response := await SERVER.send(HOSTILE[name]))
    assert (response.status_code, error["type"]) == (400, "invalid_request_error")
    assert error["message"].startswith("We could not parse the JSON body of your request: ")
    assert len(error["message"]) < 200
    assert (await SERVER.send(GOOD)).status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":"\\ud83d\\ude00",' + LAST,
        b'{"a":"\\\\ud83d",' + LAST,
        b'{"a":"\\u0000\\"\\\\",' + LAST,
        b'{"a":' + b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1) + b"," + LAST,
        b'{"a":[' + b"1," * (MAX_NODES - 20) + b"1]," + LAST,
        b'{"a":"' + b"[{," * MAX_NODES + b'",' + LAST,
        b'{"a":"' + b'\\"[\\"' * MAX_NODES + b'",' + LAST,
        b'{"a":{"b":1},"c":{"b":1},' + LAST,
        b'{"a":-0.0e-400,"b":' + b"9" * 400 + b"," + LAST,
        b"\r\n\t " + GOOD + b"\n",
    ],
    ids=range(10),
)
async def test_an_unusual_but_sound_body_is_read(data: bytes) -> None:
    assert (await SERVER.send(data)).status_code == 200


def test_generated_bodies_are_read_exactly_when_they_are_sound_json() -> None:
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    for number in range(4000):
        value = {"a": random_json(rng, 4)}
        data = json.dumps(value, ensure_ascii=rng.random() < 0.5).encode()
        assert parse_json(data) == value, f"seed {seed}, number {number}"
        damaged = damage(rng, data)
        assert read(parse_json, damaged) == read(strict, damaged), f"seed {seed}: {damaged!r}"


def random_json(rng: random.Random, depth: int) -> Any:
    match rng.randrange(8 if depth else 5):
        case 0:
            return rng.choice([None, True, False])
        case 1:
            return rng.randrange(-(10**20), 10**20)
        case 2:
            return rng.uniform(-1e6, 1e6)
        case 3 | 4:
            return "".join(rng.choices('ab\\"/{}[],:\n\0é\u2028😀', k=rng.randrange(8)))
        case 5:
            return [random_json(rng, depth - 1) for _ in range(rng.randrange(4))]
        case _:
            return {str(i): random_json(rng, depth - 1) for i in range(rng.randrange(4))}


def damage(rng: random.Random, data: bytes) -> bytes:
    """`data` with a few bytes lost, doubled or changed."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        place = rng.randrange(len(changed))
        replacement = rng.choice([b"", b"\\", b'"', b"{", b"]", b",", b"\xff", b"1"])
        changed[place : place + rng.randrange(2)] = replacement
    return bytes(changed)


def read(parse: Callable[[bytes], Any], data: bytes) -> Any:
    """What `parse` makes of `data`, None when it refuses."""
    try:
        return parse(data)
    except (InvalidBody, ValueError):
        return None


def strict(data: bytes) -> Any:
    """The standard library, with what it lets through refused, and halves of pairs replaced."""
    value = json.loads(data.decode(), object_pairs_hook=once)
    text = json.dumps(value, ensure_ascii=False)
    value = json.loads(re.sub("[\ud800-\udfff]", "\ufffd", text), object_pairs_hook=once)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key appears twice")
    return dict(pairs)


@pytest.mark.parametrize("piece", [b"{},", b"[],", b'"",', b"1,", b"[", b'{"":', b'"\\\\\\"",'])
def test_fifteen_megabytes_of_values_are_refused_before_they_are_parsed(piece: bytes) -> None:
    body = b'{"a":[' + piece * (15 * MIB // len(piece))
    started = time.process_time()
    with pytest.raises(InvalidBody, match="values"):
        check_size(body)
    assert time.process_time() - started < 0.5


@pytest.mark.parametrize("beside", [b"[],", b"{},", b"[[]],", b'{"a":[{}]},', b'"]]]",', b'"}",'])
def test_what_stands_beside_hides_no_depth(beside: bytes) -> None:
    deep = MAX_DEPTH - 2
    check_size(b'{"a":[' + beside * 200 + b"[" * deep + b"]" * deep + b"]}")
    with pytest.raises(InvalidBody, match="deep"):
        check_size(b'{"a":[' + beside * 200 + b"[" * (deep + 1) + b"]" * (deep + 1) + b"]}")


@pytest.mark.parametrize(
    "data",
    [b'{"b":1,"a":2,"c":3,"a":4}', b'{"b":{"b":1},"x":[{"b":1,"a":1,"a":2}]}'],
    ids=["outside", "inside"],
)
def test_a_key_that_comes_twice_is_named(data: bytes) -> None:
    with pytest.raises(InvalidBody, match="'a' appears twice"):
        parse_json(data)


def test_counting_does_not_mistake_text_for_structure() -> None:
    check_size(b'{"a":"' + b"[" * 1000 + b'\\"' + b"[" * 1000 + b'\\\\"}')
    with pytest.raises(InvalidBody, match="deep"):
        check_size(b'{"a\\\\":' + b"[" * 100)
