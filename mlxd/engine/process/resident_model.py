"""A model in memory: one copy of its weights, with all the names that it serves."""

import copy
import logging
import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from mlxd.engine.batching.batch import MlxBatch
from mlxd.engine.batching.row_trial import RowAbility
from mlxd.engine.grammar.constrainer import Constrainer
from mlxd.engine.model_files.library import locate, state_of_files
from mlxd.engine.models.loading import LoadedModel
from mlxd.engine.prompt.answers import Answers
from mlxd.engine.prompt.builder import PromptBuilder
from mlxd.engine.protocol import ModelSpec
from mlxd.engine.scheduling.scheduler import Scheduler
from mlxd.errors import ErrorReport, ModelUnusable

log = logging.getLogger(__name__)


class WeightsKey(NamedTuple):
    """What two models have alike that share weights: files, how they are read, and the caches."""

    folder: str
    files: str
    dtype: str | None
    kv_bits: int | None
    trust_remote_code: bool


def weights_key(spec: ModelSpec) -> WeightsKey:
    """The key of a model as its files are now."""
    folder = locate(spec.source)
    name = str(folder.resolve() if folder else spec.source)
    files = state_of_files(spec.source)
    return WeightsKey(name, files, spec.dtype, spec.kv_bits, spec.trust_remote_code)


@dataclass
class ServedName:
    """One configured model of those with the same weights: what its table says of them.

    `used` is when it last got a request; `unloads` are the commands that want it unloaded.
    """

    loaded: LoadedModel
    used: float
    unloads: list[int] = field(default_factory=list)

    def idle_at(self) -> float:
        """When it has been idle for as long as its table allows, which may be for ever."""
        spec = self.loaded.spec
        return self.used + spec.idle_seconds if spec.idle_seconds and not spec.pinned else math.inf


@dataclass
class ResidentModel:
    """A loaded model with everything that runs it."""

    loaded: LoadedModel
    ability: RowAbility
    batch: MlxBatch
    scheduler: Scheduler
    key: WeightsKey | None = None
    names: dict[str, ServedName] = field(default_factory=dict)
    awaited: set[int] = field(default_factory=set)
    """Commands that the model was loaded for, and that are being prepared."""
    failures: deque[float] = field(default_factory=lambda: deque(maxlen=2))
    served: bool = False
    """Whether a step has brought a token."""

    @property
    def used(self) -> float:
        """When one of its names last got a request."""
        return max((name.used for name in self.names.values()), default=0.0)

    @property
    def pinned(self) -> bool:
        """Whether it may not leave for another model."""
        return any(name.loaded.spec.pinned for name in self.names.values())


@dataclass(frozen=True)
class LoadFailure:
    """Why a model can't be used, since when, and how its files were (None: it may be tried anew).

    `crashed` says that trying costs the process.
    """

    reason: str
    files: str | None
    at: float = 0.0
    crashed: bool = False

    def holds(self, spec: ModelSpec, requested: float | None) -> bool:
        """Whether it is not tried anew for who asked at a time; None for an administrator."""
        if requested is None and not self.crashed:
            return False
        if requested is not None and requested < self.at:
            return True
        return self.files is not None and self.files == state_of_files(spec.source)


class NoRoom(ModelUnusable):
    """There is no memory for a model beside those that work now."""

    def __init__(self, model: str) -> None:
        super().__init__(model, "it does not fit into memory beside what is running")

    def report(self) -> ErrorReport:
        return ModelUnusable(self.model, self.reason).report()


def bytes_of(models: Iterable[ResidentModel]) -> int:
    """What their weights take, each counted once."""
    return sum(model.loaded.bytes for model in models)


def makers_for(loaded: LoadedModel, answers: Answers | None) -> tuple[PromptBuilder, Constrainer]:
    """What the preparing thread needs of a model; raises `ModelUnusable`."""
    spec, size, ends = loaded.spec, loaded.vocab_size, sorted(loaded.eos_ids)
    try:
        # The fast tokenizers must not be shared between threads.
        tokenizer = copy.deepcopy(loaded.tokenizer)
        builder = PromptBuilder(
            tokenizer,
            spec,
            loaded.context_length,
            vocab_size=size,
            known=loaded.format,
            answers=answers,
            ends=ends,
            scope=loaded.scope,
        )
        constrainer = Constrainer(tokenizer, builder, ends=ends, vocab_size=size)
    except BaseException as error:  # Tokenizers raise what they like.
        log.exception("preparing prompts for %s failed", spec.id)
        raise ModelUnusable(
            spec.id, f"its tokenizer can't be used: {type(error).__name__}"
        ) from None
    return builder, constrainer
