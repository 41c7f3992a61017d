"""What a person sets of answers: `temperature 0.2 seed 7`, as `/set` and the flags take it."""

import math
import re
from collections.abc import Mapping
from typing import get_args

import msgspec

EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
DEFAULT = ("-", "default")
"""Values that give a setting back to the server."""


class SettingError(Exception):
    """A setting can't be read; its text says what was expected."""


class AnswerSettings(msgspec.Struct, frozen=True):
    """None is what the server does by itself; the names are those that people write."""

    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    seed: int | None = None
    reasoning: str | None = None

    def changed(self, text: str) -> "AnswerSettings":
        """These, with what `text` says: names with their values. Raises `SettingError`."""
        words = re.split(r"[\s=]+", text.strip())
        if len(words) % 2:
            raise SettingError(f"Name and value, such as temperature 0.2; there are: {NAMES}.")
        values = {
            name: _value(name, value) for name, value in zip(words[::2], words[1::2], strict=True)
        }
        return msgspec.structs.replace(self, **values)

    def body(self) -> dict[str, object]:
        """The fields of a request that say so."""
        fields: dict[str, object] = {
            "temperature": self.temperature,
            "max_output_tokens": self.max_tokens,
            "top_p": self.top_p,
            "seed": self.seed,
            "reasoning": None if self.reasoning is None else {"effort": self.reasoning},
        }
        return {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        known = msgspec.structs.asdict(self).items()
        return " ".join(f"{name} {value}" for name, value in known if value is not None)


NAMES = ", ".join(AnswerSettings.__struct_fields__)
LIMITS: Mapping[str, tuple[float, float, str]] = {
    "temperature": (0, 2, "a number from 0 to 2"),
    "max_tokens": (1, 2**31 - 1, "a whole number from 1"),
    "top_p": (1e-9, 1, "a number above 0, up to 1"),
    "seed": (-(2**63), 2**63 - 1, "a whole number"),
}


def _value(name: str, text: str) -> float | int | str | None:
    if name not in AnswerSettings.__struct_fields__:
        raise SettingError(f"There is no setting {name[:40]}; there are: {NAMES}.")
    if text.lower() in DEFAULT:
        return None
    if name == "reasoning":
        if text.lower() not in EFFORTS:
            raise SettingError(f"reasoning is one of {', '.join(EFFORTS)}, not {text[:40]}.")
        return text.lower()
    lowest, highest, expected = LIMITS[name]
    whole = int in get_args(AnswerSettings.__annotations__[name])
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        value = math.nan
    if not lowest <= value <= highest:
        raise SettingError(f"{name} is {expected}, not {text[:40]}.")
    return value
