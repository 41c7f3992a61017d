"""What the engine is configured with: `[defaults]` and `[models.*]` merged into its own types.

This merges levels of the configuration only. What a request leaves open is filled in from here by
the engine.
"""

from pathlib import Path
from typing import TypeVar

import msgspec
import platformdirs

from mlxd.config.api_keys import key_shares
from mlxd.config.settings import DefaultSettings, SamplingSettings, Settings
from mlxd.engine.protocol import EngineLimits, ModelSpec, PrefixDiskLimits
from mlxd.messages import Sampling

T = TypeVar("T")


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
            sampling=_sampling(model).merged(written_sampling(defaults)),
            usual_sampling=_sampling(DefaultSettings()),
            reasoning_mode=_first(model.reasoning, defaults.reasoning),
            template_args=dict(model.template_args),
            tool_format=model.tool_format,
            reasoning_tags=model.reasoning_tags,
            dtype=model.dtype,
            kv_bits=model.kv_bits,
            trust_remote_code=model.trust_remote_code,
            stop_repetition=_first(model.stop_repetition, defaults.stop_repetition),
            idle_seconds=model.idle_seconds,
            pinned=model.pinned,
        )
        for alias, model in settings.models.items()
    )


def default_model(settings: Settings) -> str | None:
    """Alias of the model that answers when a request names none."""
    return settings.defaults.model or next(iter(settings.models), None)


def prefix_folder(settings: Settings, config_file: Path | None) -> Path:
    """Where prefixes are kept on the disk, if they are."""
    if not settings.engine.prefix_disk_path:
        # No backup takes what is in a cache, and these are people's prompts.
        return platformdirs.user_cache_path("mlxd", appauthor=False) / "prefixes"
    base = config_file.absolute().parent if config_file else Path.cwd()
    return base / Path(settings.engine.prefix_disk_path).expanduser()


def engine_limits(settings: Settings, config_file: Path | None = None) -> EngineLimits:
    """How much the engine may take on."""
    engine = settings.engine
    disk = PrefixDiskLimits(
        path=str(prefix_folder(settings, config_file)),
        bytes=engine.prefix_disk_bytes,
        daily_bytes=engine.prefix_disk_daily_bytes,
    )
    return EngineLimits(
        max_batch=engine.max_batch,
        max_queue=settings.server.max_queue,
        prefill_budget=engine.prefill_budget,
        decode_share=engine.decode_share,
        prefix_cache_bytes=engine.prefix_cache_bytes,
        exact_history=engine.exact_history,
        memory_bytes=engine.memory_bytes or 0,
        wired=engine.wired,
        request_seconds=settings.server.request_seconds,
        prefix_disk=disk if disk.bytes else None,
        keys=key_shares(settings),
    )


def written_sampling(defaults: DefaultSettings) -> Sampling:
    """What `[defaults]` says itself: a model's own files are asked before what is built in."""
    names = defaults.model_fields_set & SamplingSettings.model_fields.keys()
    return msgspec.convert({name: getattr(defaults, name) for name in names}, Sampling)


def _sampling(settings: SamplingSettings) -> Sampling:
    return msgspec.convert(settings, Sampling, from_attributes=True)


def _first(own: T | None, default: T) -> T:
    return default if own is None else own
