"""Files with a mistake in them: every one ends in exit code 2 and names its key."""

import random
import re
from pathlib import Path

import pytest

from mlxd.config.toml_writer import MODEL_EXAMPLE, template
from tests.environment import Shell

WRONG_VALUES = (
    "{}",
    "[[1]]",
    "1979-05-27",
    '"\\u0000"',
    "-9e99",
    "nan",
    "[{a = 1}]",
    "0x" + "f" * 40,
)


def mutate(lines: list[str], number: int, dice: random.Random) -> str:
    """Make line `number` wrong and return the last part of the key that is at fault."""
    key, _, value = lines[number].partition(" = ")
    name = key.rsplit(".", 1)[-1]
    match dice.randrange(6):
        case 0:
            position = dice.randrange(len(name))
            name = name[:position] + dice.choice("xq7") + name[position:]
            lines[number] = f"{name} = {value}"
        case 1:
            lines[number] = f"{key} = {dice.choice(WRONG_VALUES)}"
        case 2:
            lines[number] = f"{key} {value}"
            return "is not valid TOML"
        case 3:
            lines.insert(number, lines[number])
            return "is not valid TOML"
        case 4:
            lines[number] = f"{key} = {value}\nextra_{name} = 1"
            return f"extra_{name}"
        case _:
            lines[number] = f"{key} = {value} {dice.choice(']}=')}"
            return "is not valid TOML"
    return name


BLOCKS = range(10)


@pytest.mark.parametrize("block", BLOCKS)
def test_300_mutated_files_exit_2_and_name_the_key(block: int, mlxd: Shell) -> None:
    original = re.sub(r"(?m)^#(?! )", "", template()).splitlines()
    entries = [n for n, line in enumerate(original) if re.match(r"\w+ = ", line)]
    for seed in range(block * 30, block * 30 + 30):
        dice, lines = random.Random(seed), list(original)
        named = mutate(lines, dice.choice(entries), dice)
        Path("mutant.toml").write_text("\n".join(lines), encoding="utf-8")
        result = mlxd("config", "show", "--config", "mutant.toml")
        changed = [line for line in lines if line not in original]
        assert (result.code, result.out) == (2, ""), f"{seed}: {changed}"
        assert named in result.err, f"{seed}: {changed}"
        assert all(line.startswith("mutant.toml:") for line in result.err.splitlines())


@pytest.mark.parametrize("block", BLOCKS)
def test_200_damaged_files_never_end_in_a_traceback(block: int, mlxd: Shell) -> None:
    for seed in range(block * 20, block * 20 + 20):
        dice = random.Random(seed)
        data = bytearray(template({"m": MODEL_EXAMPLE}).encode())
        for _ in range(dice.randrange(1, 8)):
            position = dice.randrange(len(data))
            data[position : position + dice.randrange(3)] = dice.randbytes(dice.randrange(3))
        Path("mlxd.toml").write_bytes(data)
        assert mlxd("config", "show").code in (0, 2), seed
