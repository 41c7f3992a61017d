"""Where models are on this machine, and how they come here. Nothing here imports MLX."""

import hashlib
import os
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from mlxd.engine.model_files import demo_model as demo
from mlxd.engine.model_files.download_progress import Progress, going_on, watching
from mlxd.engine.model_files.verification import MAX_FILES, weight_files
from mlxd.errors import ModelUnusable

DEMO = "demo"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
WANTED = ("*.json", "*.jsonl", "*.jinja", "*.txt", "*.model", "*.tiktoken", "model*.safetensors")
"""What is downloaded of a hub repository: data in formats that can't hold code."""


@dataclass(frozen=True)
class Downloaded:
    """A model that is on this machine; `bytes` of weights."""

    source: str
    folder: Path
    bytes: int


def locate(source: str) -> Path | None:
    """The folder of a model that is here: `demo`, a folder, or a hub id; never asks the network."""
    if source == DEMO:
        return demo.folder() if demo.is_whole(demo.folder()) else None
    if (folder := _local_folder(source)) is not None:
        return folder
    if not HUB_ID.fullmatch(source):
        return None
    # As the hub's library does it, whose import takes longer than all else that `serve` does.
    cached = _hub_cache() / f"models--{source.replace('/', '--')}"
    try:
        revision = (cached / "refs" / "main").read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        revision = "main"
    folder = cached / "snapshots" / revision
    return folder if (folder / "config.json").is_file() else None


def state_of_files(source: str) -> str:
    """How a model's files are now: another text once one of them was changed; empty without any."""
    folder = locate(source)
    if folder is None:
        return ""
    # Python compiles a model's own code beside it: that changes nothing.
    paths = (
        Path(parent) / name
        for parent, _, files in os.walk(folder)
        for name in files
        if Path(parent).name != "__pycache__"
    )
    state = hashlib.sha256()
    for path in sorted(islice(paths, MAX_FILES)):
        try:
            is_now = path.stat()
        except OSError:
            # A link that leads nowhere; it is refused elsewhere.
            continue
        state.update(f"{path}\0{is_now.st_size}\0{is_now.st_mtime_ns}\n".encode(errors="replace"))
    return state.hexdigest()


def size_on_disk(folder: Path) -> int:
    """Bytes of a model's weights."""
    return sum(path.stat().st_size for path in weight_files(folder))


def downloaded() -> tuple[Downloaded, ...]:
    """The demo and the hub models that are here, by name."""
    names = sorted(path.name for path in _hub_cache().glob("models--*--*"))
    sources = [DEMO, *(name.removeprefix("models--").replace("--", "/", 1) for name in names)]
    folders = {source: folder for source in sources if (folder := locate(source)) is not None}
    return tuple(
        Downloaded(source, folder, size_on_disk(folder))
        for source, folder in folders.items()
        if weight_files(folder)
    )


def download(source: str, progress: Progress) -> Path:
    """Bring a model here and return its folder; raises `ModelUnusable`.

    `progress` is called with what goes on and how much of it is done.
    """
    if source == DEMO:
        return demo.pull_demo(progress)
    if (folder := _local_folder(source)) is not None:
        return folder
    if not HUB_ID.fullmatch(source):
        raise ModelUnusable(source, "it is neither a folder, nor a hub id, nor 'demo'")
    return _download_from_hub(source, progress)


def bytes_to_come(source: str) -> int:
    """How many bytes a model will take on the disk that are not here yet; asks the hub."""
    if source == DEMO:
        return demo.DEMO.size + demo.CONVERTED
    return sum(file.file_size or 0 for file in _listed(source) if file.will_download)


def cache_folder(source: str) -> Path:
    """The folder that a model will go to, or the nearest one to it that is there."""
    wanted = demo.folder() if source == DEMO else _hub_cache()
    return next(each for each in (wanted, *wanted.parents) if each.is_dir())


def _listed(repository: str) -> list[Any]:
    """The files of a hub repository that a download would bring; raises `ModelUnusable`."""
    from huggingface_hub import snapshot_download

    try:
        found: Any = snapshot_download(repository, allow_patterns=list(WANTED), dry_run=True)
    except Exception as error:
        # The hub's client raises errors of several libraries; they differ by version.
        raise ModelUnusable(repository, _hub_reason(error)) from error
    return list(found)


def _local_folder(source: str) -> Path | None:
    try:
        folder = Path(source).expanduser()
    except RuntimeError:  # There is no user of that name.
        return None
    return folder.absolute() if source and folder.is_dir() else None


def _hub_cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _download_from_hub(repository: str, progress: Progress) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils.tqdm import disable_progress_bars

    disable_progress_bars()
    folder = _hub_cache() / f"models--{repository.replace('/', '--')}"
    try:
        with going_on("download", progress):
            files = _listed(repository)
        if not any(file.filename.endswith(".safetensors") for file in files):
            raise ModelUnusable(repository, "its hub repository has no model*.safetensors")
        total = sum(file.file_size or 0 for file in files if file.will_download)
        with watching(folder, total, progress):
            return Path(snapshot_download(repository, allow_patterns=list(WANTED)))
    except ModelUnusable:
        raise
    except Exception as error:
        # The hub's client raises errors of several libraries; they differ by version.
        raise ModelUnusable(repository, _hub_reason(error)) from error


def _hub_reason(error: BaseException) -> str:
    """What went wrong, in words for someone who typed a name; the cause knows best."""
    names = set()
    cause: BaseException | None = error
    while cause is not None:
        names.add(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    if "GatedRepoError" in names:
        return "its hub repository asks for a login: accept its terms, then `hf auth login`"
    if "RepositoryNotFoundError" in names:
        return "there is no such repository on the hub, or it needs a login (`hf auth login`)"
    if any("Timeout" in name or "Connect" in name for name in names):
        return "the hub can't be reached; check the network connection"
    return f"the download failed ({type(error).__name__})"
