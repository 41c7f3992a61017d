"""What a model's authors advise about sampling: `generation_config.json` in its folder.

A wrong value is left out and named, as is a file that can't be read: neither keeps a model from
being served. Nothing here imports MLX.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from mlxd.engine.model_files.verification import Unusable, read_object
from mlxd.messages import Sampling

FILE = "generation_config.json"


@dataclass(frozen=True)
class Advice:
    """The advice, and in words what of the file is wrong; `readable` says if it could be read."""

    sampling: Sampling = Sampling()
    faults: tuple[str, ...] = ()
    readable: bool = True


RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "temperature": (lambda value: 0 <= value <= 2, "a number from 0 to 2"),
    "top_p": (lambda value: 0 < value <= 1, "a number above 0, up to 1"),
    "top_k": (lambda value: value == int(value) and 0 <= value < 2**31, "a whole number from 0"),
    "min_p": (lambda value: 0 <= value <= 1, "a number from 0 to 1"),
    "repetition_penalty": (lambda value: 0.01 <= value <= 10, "a number from 0.01 to 10"),
}
"""What is read, with the values that make sense; the same as in the configuration."""


def advice(folder: Path) -> Advice:
    """The advice in a model's folder; nothing where there is no such file."""
    if not (folder / FILE).exists():
        return Advice()
    try:
        content = read_object(folder / FILE)
    except (OSError, Unusable) as error:
        reason = str(error) if isinstance(error, Unusable) else f"{FILE} can't be read"
        return Advice(faults=(f"{reason}; it is left out",), readable=False)
    values: dict[str, float | int] = {}
    faults = []
    for name, (fits, expected) in RANGES.items():
        value = content.get(name)
        if value is None:
            continue
        # JSON as Python reads it has NaN, which no comparison holds for, and infinity.
        if type(value) in (int, float) and abs(value) < 2**31 and fits(value):
            values[name] = int(value) if name == "top_k" else float(value)
        else:
            faults.append(_fault(name, expected, value))
    samples = content.get("do_sample")
    if samples is False:
        values["temperature"] = 0.0
    elif not isinstance(samples, bool | None):
        faults.append(_fault("do_sample", "true or false", samples))
    return Advice(msgspec.convert(values, Sampling), tuple(faults))


def _fault(name: str, expected: str, value: object) -> str:
    return f"{FILE}: {name} should be {expected}, but is {str(value)[:40]!r}; it is left out"
