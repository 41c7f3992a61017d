"""How the configuration's levels become what the engine is told."""

import pytest

from mlxd.config.engine_specs import default_model, engine_limits, model_specs
from mlxd.config.settings import (
    DefaultSettings,
    EngineSettings,
    ModelSettings,
    ServerSettings,
    Settings,
)
from mlxd.engine.protocol import EngineLimits, ModelSpec
from mlxd.messages import Sampling

USUAL = Sampling(temperature=0.7, top_p=0.95, top_k=0, min_p=0.0, repetition_penalty=1.0)


def test_a_model_that_says_nothing_gets_the_defaults() -> None:
    (spec,) = model_specs(Settings(models={"m": ModelSettings(source="demo")}))
    assert spec == ModelSpec(
        id="m",
        source="demo",
        max_tokens=4096,
        usual_sampling=USUAL,
        reasoning_mode="separate",
    )


def test_a_model_beats_the_defaults_key_by_key() -> None:
    model = ModelSettings.model_validate(
        {
            "source": "owner/name",
            "aliases": ("gpt-4o", "claude-*"),
            "context_length": 512,
            "max_tokens": 7,
            "temperature": 0.0,
            "top_k": 5,
            "reasoning": "strip",
            "template_args": {"enable_thinking": False},
            "tool_format": "hermes",
            "reasoning_tags": ("<a>", "</a>"),
            "dtype": "float32",
            "trust_remote_code": True,
        }
    )
    defaults = DefaultSettings(
        temperature=1.0, top_p=0.5, min_p=0.1, max_tokens=9, repetition_penalty=1.5
    )
    (spec,) = model_specs(Settings(models={"m": model}, defaults=defaults))
    assert spec == ModelSpec(
        id="m",
        source="owner/name",
        aliases=("gpt-4o", "claude-*"),
        context_length=512,
        max_tokens=7,
        sampling=Sampling(temperature=0.0, top_p=0.5, top_k=5, min_p=0.1, repetition_penalty=1.5),
        usual_sampling=USUAL,
        reasoning_mode="strip",
        template_args={"enable_thinking": False},
        tool_format="hermes",
        reasoning_tags=("<a>", "</a>"),
        dtype="float32",
        trust_remote_code=model.trust_remote_code,
    )
    assert spec.trust_remote_code


def test_only_what_defaults_writes_beats_a_models_own_file() -> None:
    # A value that is written beats the file even where it is the built-in one.
    written = {"defaults": {"temperature": 0.7}, "models": {"m": {"source": "demo", "top_k": 3}}}
    (spec,) = model_specs(Settings.model_validate(written))
    assert spec.sampling == Sampling(temperature=0.7, top_k=3)
    assert spec.usual_sampling == USUAL


def test_models_keep_the_order_of_the_configuration() -> None:
    models = {alias: ModelSettings(source="demo") for alias in ("z", "a", "m")}
    assert [spec.id for spec in model_specs(Settings(models=models))] == ["z", "a", "m"]


@pytest.mark.parametrize(
    ("named", "models", "expected"),
    [("", [], None), ("", ["b", "a"], "b"), ("a", ["b", "a"], "a")],
)
def test_the_default_model_is_the_named_or_the_first(
    named: str, models: list[str], expected: str | None
) -> None:
    configured = {alias: ModelSettings(source="demo") for alias in models}
    settings = Settings(defaults=DefaultSettings(model=named), models=configured)
    assert default_model(settings) == expected


def test_limits_come_from_the_engine_and_server_tables() -> None:
    settings = Settings(
        engine=EngineSettings(
            max_batch=3, prefill_budget=0.5, prefix_cache_bytes=5, memory_bytes=1_000_000
        ),
        server=ServerSettings(max_queue=4, request_seconds=6.0),
    )
    assert engine_limits(settings) == EngineLimits(
        max_batch=3,
        max_queue=4,
        prefill_budget=0.5,
        prefix_cache_bytes=5,
        memory_bytes=1_000_000,
        request_seconds=6.0,
    )


def test_prefixes_get_what_is_left_if_the_configuration_does_not_say() -> None:
    limits = engine_limits(Settings())
    assert limits.prefix_cache_bytes is None
    assert limits.memory_bytes == 0


def test_a_prefix_cache_of_no_bytes_stays_off() -> None:
    assert (
        engine_limits(Settings(engine=EngineSettings(prefix_cache_bytes=0))).prefix_cache_bytes == 0
    )
