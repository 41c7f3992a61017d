"""Random JSON Schemas of the kind that tools and structured outputs have."""

import random
import string
from typing import Any

Schema = dict[str, Any]

PATTERNS = ("^[a-z]{2,5}$", "^[A-Z]{3}-[0-9]{2}$", "^#[0-9a-f]{6}$", "[0-9]")
FORMATS = ("date", "uuid", "ipv4", "email", "time")


def random_object(rng: random.Random, depth: int = 2) -> Schema:
    """An object's schema with up to four properties, some required, nested up to `depth`."""
    names = {_name(rng) for _ in range(rng.randint(1, 4))}
    properties = {name: random_schema(rng, depth) for name in sorted(names)}
    required = [name for name in properties if rng.random() < 0.6]
    schema: Schema = {"type": "object", "properties": properties, "required": required}
    if rng.random() < 0.7:
        schema["additionalProperties"] = False
    return schema


def random_schema(rng: random.Random, depth: int = 2) -> Schema:
    """Any value's schema."""
    kinds = [_text, _choice, _integer, _number, _flag, _nothing, _constant, _nullable]
    if depth > 0:
        kinds += [_list, _list, _union]
        if rng.random() < 0.4:
            return random_object(rng, depth - 1)
    kind = rng.choice(kinds)
    return kind(rng, depth - 1)


def _name(rng: random.Random) -> str:
    return "".join(rng.choices(string.ascii_lowercase + "_", k=rng.randint(1, 3)))


def _text(rng: random.Random, _: int) -> Schema:
    schema: Schema = {"type": "string"}
    match rng.randrange(5):
        case 0:
            schema["maxLength"] = rng.randint(1, 12)
        case 1:
            schema["minLength"] = rng.randint(0, 5)
        case 2:
            schema["pattern"] = rng.choice(PATTERNS)
        case 3:
            schema["format"] = rng.choice(FORMATS)
    return schema


def _choice(rng: random.Random, _: int) -> Schema:
    return {"type": "string", "enum": sorted({_name(rng) for _ in range(rng.randint(1, 4))})}


def _integer(rng: random.Random, _: int) -> Schema:
    schema: Schema = {"type": "integer"}
    if rng.random() < 0.5:
        schema["minimum"] = rng.randint(-20, 20)
        schema["maximum"] = schema["minimum"] + rng.randint(0, 300)
    return schema


def _number(rng: random.Random, _: int) -> Schema:
    schema: Schema = {"type": "number"}
    if rng.random() < 0.4:
        schema["minimum"] = rng.randint(0, 5)
    return schema


def _flag(_: random.Random, __: int) -> Schema:
    return {"type": "boolean"}


def _nothing(_: random.Random, __: int) -> Schema:
    return {"type": "null"}


def _constant(rng: random.Random, _: int) -> Schema:
    return {"const": rng.choice(["on", 3, True, "a b"])}


def _nullable(rng: random.Random, _: int) -> Schema:
    return {"type": [rng.choice(["string", "integer", "boolean"]), "null"]}


def _list(rng: random.Random, depth: int) -> Schema:
    schema: Schema = {"type": "array", "items": random_schema(rng, depth)}
    if rng.random() < 0.6:
        schema["minItems"] = rng.randint(0, 2)
        schema["maxItems"] = schema["minItems"] + rng.randint(0, 3)
    return schema


def _union(rng: random.Random, depth: int) -> Schema:
    return {"anyOf": [random_schema(rng, depth), random_schema(rng, depth)]}
