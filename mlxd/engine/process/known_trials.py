"""Row trials that need not be repeated: with the same files, code and device they end the same.

A trial costs some forward passes, which takes seconds for a model that fills a machine.
"""

import hashlib
import logging
import time
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import mlx.core as mx
import msgspec

from mlxd.engine.batching.row_trial import RowAbility, try_rows
from mlxd.engine.model_files.library import state_of_files
from mlxd.engine.models.loading import LoadedModel
from mlxd.engine.process.kept_files import keep, kept_folder

WORTH_SECONDS = 0.5
"""What a trial takes that is worth a file."""
MAX_FILES = 64
"""Results that are kept, the latest ones."""

log = logging.getLogger(__name__)


class KnownTrial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A result, and all that it depends on, hashed."""

    key: str
    ability: RowAbility


class KnownTrials:
    """The results of this process, and those in a folder of files, one a model.

    A file with anything wrong is tried again.
    """

    def __init__(self, folder: Path | None = None, *, worth: float = WORTH_SECONDS) -> None:
        self._folder = folder or kept_folder() / "row-trials"
        self._worth = worth
        # Models that take turns come back to the same process.
        self._tried: dict[str, RowAbility] = {}

    def ability(self, loaded: LoadedModel) -> tuple[RowAbility, bool]:
        """What a model's rows may do, and whether that was known; raises what its code raises."""
        key = _key(loaded)
        if (tried := self._tried.get(key)) is not None:
            return tried, True
        file = self._folder / f"{key}.json"
        with suppress(OSError, msgspec.MsgspecError):
            known = msgspec.json.decode(file.read_bytes(), type=KnownTrial)
            if known.key == key:
                return known.ability, True
        began = time.monotonic()
        ability = try_rows(loaded.model, loaded.vocab_size)
        # What was raised may have been a lack of memory, which is over the next time.
        if ability.certain:
            self._tried[key] = ability
            if time.monotonic() - began >= self._worth:
                self._keep(file, KnownTrial(key, ability))
        return ability, False

    def _keep(self, file: Path, known: KnownTrial) -> None:
        try:
            keep(file, msgspec.json.encode(known))
            kept = sorted(self._folder.iterdir(), key=lambda path: path.stat().st_mtime)
            for old in kept[:-MAX_FILES]:
                old.unlink(missing_ok=True)
        except OSError as error:
            log.info("a row trial can't be remembered: %s", error.strerror)


def _key(loaded: LoadedModel) -> str:
    spec = loaded.spec
    parts = [state_of_files(spec.source), spec.dtype, spec.kv_bits, str(mx.default_device())]
    parts += [version(package) for package in ("mlx", "mlx-lm")]
    # Versions of a checkout do not change with its code.
    engine = Path(__file__).parent.parent
    own = [path for room in ("batching", "models") for path in (engine / room).glob("*.py")]
    parts += [
        f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in sorted(own)
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
