"""Logprobs as OpenAI's APIs write them, and others after them."""

from collections.abc import Sequence

from mlxd.api.dialect import JsonObject
from mlxd.events import TokenLogprob

LOWEST_LOGPROB = -9999.0
"""What stands for minus infinity, which JSON does not have."""


def logprob_list(logprobs: Sequence[TokenLogprob]) -> list[JsonObject]:
    """One object a token, with its alternatives."""
    return [
        {
            **_logprob(each.token, each.logprob, each.bytes),
            "top_logprobs": [_logprob(top.token, top.logprob, top.bytes) for top in each.top],
        }
        for each in logprobs
    ]


def _logprob(token: str, logprob: float, raw: bytes) -> JsonObject:
    finite = logprob if logprob > LOWEST_LOGPROB else LOWEST_LOGPROB
    return {"token": token, "logprob": finite, "bytes": list(raw)}
