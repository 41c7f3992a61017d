"""Where a model's sampling comes from where a request says nothing: the order of the engine."""

from typing import NamedTuple

from mlxd.config.engine_specs import written_sampling
from mlxd.config.settings import DefaultSettings, ModelSettings, SamplingSettings
from mlxd.engine.model_files.generation_config import FILE, Advice, advice
from mlxd.engine.model_files.library import locate

TABLE, DEFAULTS, BUILT_IN = "its table", "[defaults]", "default"


class SamplingDefault(NamedTuple):
    """A parameter as a model has it, and which of the levels says so."""

    name: str
    value: float | int
    origin: str


def advice_for(model: ModelSettings) -> Advice:
    """What the model's own file says, if the model is here."""
    folder = locate(model.source)
    return advice(folder) if folder is not None else Advice()


def sampling_defaults(model: ModelSettings, defaults: DefaultSettings) -> list[SamplingDefault]:
    """Each parameter from the strongest level that has it."""
    levels = (
        (TABLE, model),
        (DEFAULTS, written_sampling(defaults)),
        (FILE, advice_for(model).sampling),
        (BUILT_IN, DefaultSettings()),
    )
    return [
        next(
            SamplingDefault(name, value, origin)
            for origin, values in levels
            if (value := getattr(values, name)) is not None
        )
        for name in SamplingSettings.model_fields
    ]
