"""What texts and numbers of the configuration may be, each with the words for what was expected."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError


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
