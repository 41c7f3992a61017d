"""How an answer is drawn, as requests of OpenAI's APIs say it, with what other servers have added.

Sampling, stop strings, seeds, and what a caller may set in the chat template.
"""

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mlxd.api.openai.errors import Bound, out_of_range, unsupported, wrong_type, wrong_value
from mlxd.api.openai.wire import Wire, expected
from mlxd.api.wire.sampling import read_sampling
from mlxd.messages import SWITCHES, ReasoningOptions, Sampling, Scalar, read_switch

MAX_TOKENS = 2**31 - 1
"""A larger limit of tokens means the same: the window ends the answer long before."""
MAX_STOPS = 32
"""Many more than the vendor takes: editors send ten and more, and each costs next to nothing."""
MAX_STOP_LENGTH = 256
"""Characters."""
MAX_BIASES = 1024
MAX_TEMPLATE_TEXT = 1000
"""Characters of a template argument."""

TEMPLATE_ARGS = frozenset(
    {
        *("enable_thinking", "thinking", "thinking_budget", "thinking_mode", "reasoning_effort"),
        *("preserve_thinking", "clear_thinking", "date_string"),
    }
)
"""What a caller may set in a chat template. The rest of its variables are the server's."""

_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}")

Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]


def _as_list(value: object) -> object:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return value
    raise expected("one of a string or array of strings")


Stops = Annotated[
    list[Annotated[str, Field(max_length=MAX_STOP_LENGTH)]],
    Field(max_length=MAX_STOPS),
    BeforeValidator(_as_list),
]


def _as_switch(value: object) -> object:
    if (switch := read_switch(value)) is None:
        raise expected("a boolean")
    return switch


Switch = Annotated[bool, BeforeValidator(_as_switch)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
TokenLimit = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]


class ThinkingOption(Wire):
    """Thinking on or off, as several vendors of open models have it."""

    type: Literal["enabled", "disabled", "auto", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1)] | None = None

    @property
    def enabled(self) -> bool | None:
        """None where it is left to the model."""
        return {"enabled": True, "disabled": False}.get(self.type)


class SamplingFields(Wire):
    """Fields that every request for an answer may have; null is the same as absent."""

    stop: Stops | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Share | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Any] | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None
    # What vLLM, SGLang and llama.cpp add, and their clients send.
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Share | None = None
    repetition_penalty: Annotated[float, Field(ge=0.01, le=10)] | None = None
    enable_thinking: Switch | None = None
    thinking_budget: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None


def _unlimited(value: object) -> object:
    return MAX_TOKENS if type(value) is int and value == -1 else value


AnswerLimit = Annotated[TokenLimit, BeforeValidator(_unlimited)]
"""With -1 for no limit, as some servers' samples have it."""


def token_limit(limit: int | None) -> int | None:
    """The most tokens of an answer; None for the default."""
    return min(limit, MAX_TOKENS) if limit else None


def neutral_sampling(wire: SamplingFields) -> Sampling:
    """How tokens are drawn; raises `InvalidField`."""
    return read_sampling(wire, logit_bias=_logit_bias(wire.logit_bias or {}) or None)


def _logit_bias(biases: dict[str, Any]) -> dict[int, float]:
    if len(biases) > MAX_BIASES:
        why = f"too many keys. Expected at most {MAX_BIASES}, but got {len(biases)} instead."
        raise wrong_value("logit_bias", why, "object_above_max_properties")
    return {_token_id(key): _bias(key, value) for key, value in biases.items()}


def _token_id(key: str) -> int:
    if _TOKEN_ID.fullmatch(key) is None or int(key) > 2**31 - 1:
        why = f"keys must be token ids, but got '{key[:64]}' instead."
        raise wrong_value("logit_bias", why)
    return int(key)


def _bias(key: str, value: object) -> float:
    field = f"logit_bias.{key}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(field, "a decimal", value)
    if value > 100:
        raise out_of_range(field, value, Bound("<=", 100))
    if value < -100:
        raise out_of_range(field, value, Bound(">=", -100))
    return float(value)


def template_args(wire: SamplingFields) -> dict[str, Scalar]:
    """What the caller sets in the chat template; raises `InvalidField`."""
    args: dict[str, Scalar] = {}
    for name, value in (wire.chat_template_kwargs or {}).items():
        field = f"chat_template_kwargs.{name[:64]}"
        if name not in TEMPLATE_ARGS:
            raise unsupported(field, f"one of {', '.join(sorted(TEMPLATE_ARGS))} can be set.")
        if isinstance(value, dict | list):
            raise wrong_type(field, "a string, number, boolean or null", value)
        if isinstance(value, str) and len(value) > MAX_TEMPLATE_TEXT:
            raise wrong_value(field, f"longer than {MAX_TEMPLATE_TEXT} characters.")
        if name in SWITCHES:
            if value is None:
                continue
            if (switch := read_switch(value)) is None:
                raise wrong_type(field, "a boolean", value)
            value = switch
        args[name] = value
    return args


def neutral_reasoning(
    wire: SamplingFields, effort: str | None, thinking: ThinkingOption | None = None
) -> ReasoningOptions:
    """The fields of the request, and the template arguments by which others ask for the same."""
    enabled = next(iter(_switches(wire, thinking).values()), None)
    return ReasoningOptions(
        enabled=False if effort == "none" else enabled,
        effort=effort,
        budget=next(iter(_budgets(wire, thinking).values()), None),
    )


def reasoning_places(
    wire: SamplingFields, effort: str, thinking: ThinkingOption | None = None
) -> dict[str, str]:
    """Where the body says what is wanted of thinking; `effort` is the field of that name.

    What it does not say has an empty place.
    """
    return {
        "reasoning.enabled": next(iter(_switches(wire, thinking)), ""),
        "reasoning.effort": effort,
        "reasoning.budget": next(iter(_budgets(wire, thinking)), ""),
    }


def _switches(wire: SamplingFields, thinking: ThinkingOption | None) -> dict[str, bool]:
    """What switches thinking, by its place; the first counts."""
    arguments = template_args(wire)
    given = {
        "enable_thinking": wire.enable_thinking,
        "thinking": thinking and thinking.enabled,
        **{_argument(name): arguments.get(name) for name in SWITCHES[:2]},
    }
    return {place: value for place, value in given.items() if isinstance(value, bool)}


def _budgets(wire: SamplingFields, thinking: ThinkingOption | None) -> dict[str, int]:
    """What limits thinking, by its place; the first counts."""
    given = {
        "thinking_budget": wire.thinking_budget,
        "thinking.budget_tokens": thinking and thinking.budget_tokens,
        _argument("thinking_budget"): template_args(wire).get("thinking_budget"),
    }
    return {
        place: value
        for place, value in given.items()
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0
    }


def _argument(name: str) -> str:
    return f"chat_template_kwargs.{name}"
