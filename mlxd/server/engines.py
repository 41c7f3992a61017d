"""The engine that a server has, as its configuration says: a model's, or a script's."""

from pathlib import Path

from mlxd.config.engine_specs import default_model, engine_limits, model_specs
from mlxd.config.settings import Settings
from mlxd.engine.interface import Engine
from mlxd.engine.scripted.agent import agent
from mlxd.engine.scripted.engine import ScriptedEngine
from mlxd.engine.scripted.script_file import load_script
from mlxd.engine.supervision.supervisor import Supervisor
from mlxd.status import ModelInfo

SCRIPT_CONTEXT = 1_000_000
"""Tokens of context that a scripted model has when its configuration does not say."""


def build_engine(
    settings: Settings, scripted: str | None, config_file: Path | None = None
) -> Engine:
    """The engine that answers; nothing is started. Raises `ConfigError` for a bad script."""
    limits = engine_limits(settings, config_file)
    if scripted is None:
        return Supervisor(
            model_specs(settings),
            limits,
            preload=default_model(settings),
            stall_timeout=settings.engine.stall_timeout,
            load_timeout=settings.engine.load_timeout,
        )
    play = agent if scripted == "agent" else load_script(Path(scripted))
    return ScriptedEngine(
        play,
        models=scripted_models(settings, scripted),
        max_queue=limits.max_queue,
        max_batch=limits.max_batch,
        remembered=0,
    )


def configure_engine(
    engine: Engine, settings: Settings, scripted: str | None, config_file: Path | None
) -> None:
    """Have a running engine take what is configured from now on."""
    limits = engine_limits(settings, config_file)
    match engine:
        case Supervisor():
            engine.configure(model_specs(settings), limits, preload=default_model(settings))
        case ScriptedEngine():
            engine.configure(
                scripted_models(settings, scripted or "agent"),
                max_queue=limits.max_queue,
                max_batch=limits.max_batch,
            )


def scripted_models(settings: Settings, scripted: str) -> tuple[ModelInfo, ...]:
    """The configured models, each answered for by a script."""
    return tuple(
        ModelInfo(
            id=spec.id,
            aliases=spec.aliases,
            source=f"scripted by {scripted}",
            state="loaded",
            context_length=spec.context_length or SCRIPT_CONTEXT,
            max_tokens=spec.max_tokens,
        )
        for spec in model_specs(settings)
    )
