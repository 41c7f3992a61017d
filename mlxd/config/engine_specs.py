"""What the engine is configured with: `[defaults]` and `[models.*]` merged into its own types.

This merges levels of the configuration only. What a request leaves open is filled in from here by
the engine.
"""

from typing import TypeVar

import msgspec

from mlxd.config.machine import memory_bytes
from mlxd.config.settings import SamplingSettings, Settings
from mlxd.engine.protocol import EngineLimits, ModelSpec
from mlxd.messages import Sampling

T = TypeVar("T")

PREFIX_CACHE_SHARE = 10
"""The prefix cache gets this part of the memory, if the configuration does not say."""


def model_specs(settings: Settings) -> tuple[ModelSpec, ...]:
    """The configured models in the configuration's order."""
    defaults = settings.defaults
    return tuple(
        ModelSpec(
            id=alias,
            source=model.source,
            aliases=model.aliases,
            context_length=model.context_length,
            max_tokens=_first(model.max_tokens, defaults.max_tokens),
            sampling=_sampling(model).merged(_sampling(defaults)),
            reasoning_mode=_first(model.reasoning, defaults.reasoning),
            template_args=dict(model.template_args),
            tool_format=model.tool_format,
            reasoning_tags=model.reasoning_tags,
            dtype=model.dtype,
            trust_remote_code=model.trust_remote_code,
            stop_repetition=_first(model.stop_repetition, defaults.stop_repetition),
        )
        for alias, model in settings.models.items()
    )


def default_model(settings: Settings) -> str | None:
    """Alias of the model that answers when a request names none."""
    return settings.defaults.model or next(iter(settings.models), None)


def engine_limits(settings: Settings) -> EngineLimits:
    """How much the engine may take on."""
    engine = settings.engine
    memory = min(memory_bytes(), engine.memory_bytes or memory_bytes())
    prefixes = engine.prefix_cache_bytes
    return EngineLimits(
        max_batch=engine.max_batch,
        max_queue=settings.server.max_queue,
        prefill_budget=engine.prefill_budget,
        prefix_cache_bytes=memory // PREFIX_CACHE_SHARE if prefixes is None else prefixes,
        memory_bytes=engine.memory_bytes or 0,
        request_seconds=settings.server.request_seconds,
    )


def _sampling(settings: SamplingSettings) -> Sampling:
    return msgspec.convert(settings, Sampling, from_attributes=True)


def _first(own: T | None, default: T) -> T:
    return default if own is None else own
