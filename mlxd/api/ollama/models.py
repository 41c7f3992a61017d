"""What Ollama's clients are shown of the models there are."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mlxd.api.dialect import JsonObject
from mlxd.api.model_names import LATEST, names_of
from mlxd.api.ollama.renderer import timestamp
from mlxd.status import ModelFacts, ModelInfo

FOR_EVER = "2318-01-01T00:00:00.000000Z"
"""When a model leaves memory that stays there until another one needs it."""


@dataclass(frozen=True)
class Listed:
    """A model with all that is known of it, as far as its files and the engine say it.

    `window` is the configured limit of its context, 0 without one.
    """

    info: ModelInfo
    facts: ModelFacts = ModelFacts()
    window: int = 0

    @property
    def context_length(self) -> int:
        """The window that is served; 0 while nobody knows it."""
        known = self.info.context_length or self.facts.context_length
        return min(filter(None, (known, self.window)), default=0)

    @property
    def bytes(self) -> int:
        return self.info.bytes or self.facts.bytes

    @property
    def digest(self) -> str:
        """As files have it; some clients keep it as a key, so there always is one."""
        return self.facts.digest or hashlib.sha256(self.info.source.encode()).hexdigest()

    @property
    def capabilities(self) -> list[str]:
        """Tools can be described to every model, in words where its template has no place."""
        answers = self.info.answers
        thinks = bool(answers.reasoning_tags) if answers is not None else self.facts.thinks
        return ["completion", "tools", *(["thinking"] if thinks else [])]

    @property
    def details(self) -> JsonObject:
        """All of them are texts that some clients fail without."""
        facts = self.facts
        details: JsonObject = {
            "parent_model": "",
            "format": "safetensors",
            "family": facts.family,
            "families": [facts.family] if facts.family else [],
            "parameter_size": size_in_words(facts.parameters),
            "quantization_level": facts.quantization,
        }
        return details | ({"context_length": self.context_length} if self.context_length else {})


def tags(models: Sequence[Listed], created: int) -> JsonObject:
    """Every model under each name that can be asked for; `created` where no file has a time."""
    return {
        "models": [
            {
                **_named(each, name),
                "modified_at": timestamp(each.facts.modified or created),
                "capabilities": each.capabilities,
            }
            for each in models
            for name in names_of(each.info)
        ]
    }


def running(models: Sequence[Listed]) -> JsonObject:
    """Those in memory."""
    return {
        "models": [
            {
                **_named(each, each.info.id),
                "expires_at": FOR_EVER,
                "size_vram": each.bytes,
                "context_length": each.context_length,
            }
            for each in models
            if each.info.state == "loaded"
        ]
    }


def shown(model: Listed, name: str, created: int) -> JsonObject:
    """One model, asked for as `name`."""
    facts, window = model.facts, model.context_length
    family = facts.family or "mlx"
    figures: Mapping[str, int] = {
        "general.parameter_count": facts.parameters,
        f"{family}.context_length": window,
        f"{family}.embedding_length": facts.embedding_length,
    }
    return {
        "license": "",
        "modelfile": "# mlxd",
        # Clients read it line by line, and some give up at one that is written otherwise.
        "parameters": f"{'num_ctx':<30} {window}" if window else "",
        "template": "{{ .Prompt }}",
        "details": model.details,
        "model_info": {
            "general.architecture": family,
            "general.basename": name.rpartition("/")[2].partition(":")[0],
            **{key: figure for key, figure in figures.items() if figure},
        },
        "capabilities": model.capabilities,
        "modified_at": timestamp(facts.modified or created),
    }


def with_tag(name: str) -> str:
    """The name under which a model is listed: all have a tag there."""
    return name if ":" in name.rpartition("/")[2] else f"{name}{LATEST}"


def size_in_words(parameters: int) -> str:
    """As people name models: 4.0B."""
    for unit, letter in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if parameters >= unit:
            return f"{parameters / unit:.1f}{letter}"
    return str(parameters or "")


def _named(model: Listed, name: str) -> JsonObject:
    tagged = with_tag(name)
    return {
        "name": tagged,
        "model": tagged,
        "size": model.bytes,
        "digest": model.digest,
        "details": model.details,
    }
