"""Whether the model behind a configured alias is on this machine, and usable."""

from pathlib import Path
from typing import NamedTuple

from mlxd.config.settings import ModelSettings
from mlxd.engine.model_files.library import locate, size_on_disk
from mlxd.engine.model_files.sources import DEMO, repository
from mlxd.engine.model_files.verification import check
from mlxd.errors import ModelUnusable


class LocalModel(NamedTuple):
    """Bytes of weights, None if they are not here; `reason` says why it can't be served."""

    bytes: int | None
    reason: str = ""


def find_model(alias: str, model: ModelSettings) -> LocalModel:
    """What is here of a configured model; never asks the network."""
    folder = locate(model.source)
    if folder is None:
        return LocalModel(
            None, "not downloaded" if can_be_pulled(model.source) else "no such folder"
        )
    try:
        check(folder, alias, trust_remote_code=model.trust_remote_code)
    except ModelUnusable as error:
        return LocalModel(size_on_disk(folder), error.reason)
    return LocalModel(size_on_disk(folder))


def is_hub_model(source: str) -> bool:
    """Whether a source names a repository of the hub; a folder of that name comes first."""
    return repository(source) is not None and not Path(source).is_dir()


def can_be_pulled(source: str) -> bool:
    """Whether `mlxd pull` could bring it here; a folder it could not."""
    return source == DEMO or is_hub_model(source)
