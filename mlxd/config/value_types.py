"""The kinds of values that keys of the configuration have, with what is said of wrong ones."""

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, Strict
from pydantic_core import PydanticCustomError

from mlxd.dialects import DIALECTS

if TYPE_CHECKING:
    DialectName = str
else:
    DialectName = Literal[tuple(DIALECTS)]
ToolFormat = Literal[
    "json_tools",
    "hermes",
    "qwen3_coder",
    "seed_oss",
    "glm47",
    "laguna",
    "longcat",
    "gemma4",
    "function_gemma",
    "kimi_k2",
    "kimi_k3",
    "minimax_m1",
    "minimax_m2",
    "minimax_m3",
    "minicpm5",
    "muse_spark",
    "mistral",
    "pythonic",
    "bare_pythonic",
    "olmo3",
    "harmony",
    "llama3_json",
    "deepseek",
    "deepseek_v32",
    "deepseek_v4",
    "cohere",
    "granite",
    "nemotron",
    "hunyuan",
    "phi4",
    "gigachat",
    "command_r_plus",
    "functionary_v3",
    "granite_20b",
    "hy_v3",
    "internlm2",
    "solar",
    "apertus",
    "bare_json",
]
"""The notations of `mlxd.engine.notations`; a test keeps the two equal."""


def _matching(pattern: str, expected: str) -> AfterValidator:
    """A string that `pattern` matches as a whole; `expected` says so in words."""
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.fullmatch(value):
            return value
        raise PydanticCustomError("pattern", "expected {expected}", {"expected": expected})

    return AfterValidator(check)


Alias = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}",
        "a name of letters, digits, '.', '_', ':', '/' and '-'",
    ),
]
AliasPattern = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9*][A-Za-z0-9._:/*-]{0,127}",
        "a name of letters, digits, '.', '_', ':', '/', '-' and '*'",
    ),
]
ApiKey = Annotated[str, _matching(r"[\x21-\x7e]+", "visible ASCII characters without spaces")]
AdminToken = Annotated[
    str, _matching(r"|[\x21-\x7e]{16,}", "at least 16 visible ASCII characters without spaces")
]
HostName = Annotated[str, _matching(r"[^\s/@]+", "a host name without scheme or path")]
Origin = Annotated[
    str,
    _matching(
        r"\*|null|[A-Za-z][A-Za-z0-9+.-]*://[^/\s]+",
        'an origin such as "https://app.example" (no path), or "*"',
    ),
]
Version = Annotated[str, _matching(r"\d{1,4}(\.\d{1,4}){2}", 'a version such as "0.35.1"')]
TemplateArg = Annotated[str, _matching(r"[A-Za-z_][A-Za-z0-9_]*", "the name of a variable")]
# A half surrogate stands for a byte of an environment variable that is no UTF-8.
_PRINTABLE = r"[^\x00-\x1f\x7f\ud800-\udfff]"
NonEmpty = Annotated[
    str,
    _matching(
        rf"(?=.*\S){_PRINTABLE}+",
        "a string that is not empty and has no control characters",
    ),
]
Tag = Annotated[str, _matching(rf"(?=\s*\S)(?:{_PRINTABLE}|\s)+", "a tag such as <think>")]

PathText = Annotated[str, _matching(r"[^\x00-\x1f\x7f]*", "a path without control characters")]
"""A path as it is written in the file; empty for the usual place."""
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Seconds = Annotated[float, Field(gt=0, le=10_000_000)]

# TOML has lists where the tree has tuples; everything else must have the type it is declared with.
Listed = Strict(False)

Effect = Literal["now", "next load", "restart"]
"""When a running server takes a key that was changed: at once, as it loads the model, or never."""
NOW: Effect = "now"
NEXT_LOAD: Effect = "next load"
RESTART: Effect = "restart"
