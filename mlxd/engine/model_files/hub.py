"""The hub: what a repository holds, how it comes here, what others there are. No MLX.

Weights are fetched by ourselves, as the hub's client begins a file anew after every interruption;
whatever else belongs to a snapshot is its work.
"""

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from mlxd.engine.model_files.cache import PART, cache_root, folder_of
from mlxd.engine.model_files.download_progress import Progress, going_on, watching
from mlxd.engine.model_files.integrity import SHA256, sha256_of
from mlxd.engine.model_files.sources import COMMIT, Repository, repository
from mlxd.engine.model_files.verification import WEIGHTS
from mlxd.errors import ModelUnusable

WANTED = ("*.json", "*.jsonl", "*.jinja", "*.txt", "*.model", "*.tiktoken", WEIGHTS)
"""What is downloaded of a hub repository: data in formats that can't hold code."""
PLAIN_AT_MOST = 50 * 10**9
"""Bytes of a file from which the hub wants another protocol, which its client speaks."""
ANSWERS = 10.0
"""Seconds in which the hub answers a question."""
FOUND_AT_MOST = 25
"""Models that a search lists."""
ITEM_BITS = {"F64": 64, "I64": 64, "U64": 64, "F32": 32, "I32": 32, "U32": 32}
ITEM_BITS |= {"F16": 16, "BF16": 16, "I16": 16, "U16": 16}
"""Bits of a parameter by its type, as far as they are not 8."""


class RemoteFile(NamedTuple):
    """A file of a repository; `blob` is what the cache calls it, for weights their SHA-256."""

    name: str
    size: int
    blob: str


class FoundModel(NamedTuple):
    """A model of the hub that a search has found; `bytes` 0 where the hub does not say."""

    source: str
    downloads: int
    bytes: int
    gated: bool


class _Tensors(msgspec.Struct, frozen=True):
    parameters: dict[str, int] = {}


class _Listed(msgspec.Struct, frozen=True):
    """A model as the hub's search lists it."""

    id: str
    downloads: int | None = None
    gated: bool | str = False
    safetensors: _Tensors | None = None


@dataclass(frozen=True)
class HubDownload:
    """A repository at one commit, and what of it is to come here."""

    repository: Repository
    commit: str
    files: tuple[RemoteFile, ...]

    @property
    def total(self) -> int:
        """Bytes of all that belongs here."""
        return sum(file.size for file in self.files)

    @property
    def here(self) -> int:
        """Bytes of it that are here, those of a download that was broken off among them."""
        return sum(self._present(file) for file in self.files)

    @property
    def weights(self) -> int:
        """Bytes of weights."""
        return sum(file.size for file in self.files if fnmatch(file.name, WEIGHTS))

    def run(self, progress: Progress) -> Path:
        """Bring it here, and return its folder; raises `ModelUnusable`."""
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
        with _hub_errors(self.repository):
            for file in self.files:
                if SHA256.fullmatch(file.blob) and file.size <= PLAIN_AT_MOST:
                    self._fetch(file, progress)
            with watching(self._blobs, self.total, progress, self.here):
                return Path(
                    snapshot_download(
                        self.repository.name,
                        revision=self.repository.revision or None,
                        allow_patterns=list(WANTED),
                    )
                )

    @property
    def _blobs(self) -> Path:
        return folder_of(self.repository.name) / "blobs"

    def _is_complete(self, file: RemoteFile) -> bool:
        snapshot = folder_of(self.repository.name) / "snapshots" / self.commit
        return (self._blobs / file.blob).is_file() or (snapshot / file.name).is_file()

    def _part(self, file: RemoteFile) -> Path:
        return self._blobs / f"{file.blob}{PART}"

    def _present(self, file: RemoteFile) -> int:
        if self._is_complete(file):
            return file.size
        part = self._part(file)
        return min(part.stat().st_size, file.size) if part.is_file() else 0

    def _fetch(self, file: RemoteFile, progress: Progress) -> None:
        """Bring one file of weights here, going on from where an earlier try has ended."""
        from huggingface_hub import hf_hub_url
        from huggingface_hub.file_download import http_get
        from huggingface_hub.utils import build_hf_headers

        if self._is_complete(file):
            return
        self._blobs.mkdir(parents=True, exist_ok=True)
        with self._part(file).open("ab") as part:
            with watching(self._blobs, self.total, progress, self.here):
                # Who comes second waits, and finds it done. The system lets go however this ends.
                fcntl.flock(part, fcntl.LOCK_EX)
                if self._is_complete(file):
                    self._part(file).unlink(missing_ok=True)
                    return
                if part.seek(0, os.SEEK_END) > file.size:
                    part.seek(0)
                    part.truncate()
                http_get(
                    hf_hub_url(self.repository.name, file.name, revision=self.commit),
                    part,
                    resume_size=part.tell(),
                    headers=build_hf_headers(),
                    expected_size=file.size,
                    displayed_filename=file.name,
                )
            part.flush()
            self._accept(file, progress)

    def _accept(self, file: RemoteFile, progress: Progress) -> None:
        """Give a file that came its name, if it is the one that was promised."""
        part = self._part(file)
        with going_on("check", progress):
            found = sha256_of(part, lambda read: None)
        if found != file.blob:
            part.unlink()
            reason = f"{file.name} is not what the hub says it is, and was thrown away; pull again"
            raise ModelUnusable(str(self.repository), reason)
        part.rename(self._blobs / file.blob)


def look_up(wanted: Repository) -> HubDownload:
    """What a download of a repository would bring; raises `ModelUnusable`."""
    from huggingface_hub import HfApi

    with _hub_errors(wanted):
        info: Any = HfApi().model_info(
            wanted.name,
            revision=wanted.revision or None,
            files_metadata=True,
            timeout=ANSWERS,
        )
        files = tuple(_remote_file(each) for each in info.siblings or ())
    files = tuple(file for file in files if any(fnmatch(file.name, each) for each in WANTED))
    if not any(file.name.endswith(".safetensors") for file in files):
        raise ModelUnusable(str(wanted), "its hub repository has no model*.safetensors")
    if not COMMIT.fullmatch(str(info.sha)):
        raise ModelUnusable(str(wanted), "the hub does not say which version this is")
    return HubDownload(wanted, info.sha, files)


def _remote_file(sibling: Any) -> RemoteFile:
    lfs = sibling.lfs
    blob = lfs.sha256 if lfs is not None else sibling.blob_id or ""
    # It becomes the name of a file.
    return RemoteFile(sibling.rfilename, sibling.size or 0, re.sub(r"[^0-9a-f]", "", blob) or "-")


def search(words: str) -> list[FoundModel]:
    """Models in mlx-lm's format whose names have these words, what many use first.

    Raises `ModelUnusable`.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

    # Not by the client's own function, which tries again for half a minute without a network.
    with _hub_errors(words):
        answer: Any = get_session().get(
            f"{constants.ENDPOINT}/api/models",
            params={
                **{"search": words, "filter": "mlx", "sort": "downloads", "limit": FOUND_AT_MOST},
                "expand": ["downloads", "gated", "safetensors"],
            },
            headers=build_hf_headers(),
            timeout=ANSWERS,
        )
        hf_raise_for_status(answer)
        found = msgspec.json.decode(answer.content, type=list[_Listed])
    return [
        FoundModel(each.id, each.downloads or 0, _bytes(each.safetensors), each.gated is not False)
        for each in found
        if repository(each.id) is not None
    ]


def _bytes(safetensors: "_Tensors | None") -> int:
    parameters = safetensors.parameters if safetensors else {}
    return sum(count * ITEM_BITS.get(kind, 8) // 8 for kind, count in parameters.items())


def remove(name: str, commits: frozenset[str]) -> int:
    """Remove snapshots of a repository, and return how many bytes that frees."""
    from huggingface_hub import scan_cache_dir

    folder = folder_of(name)
    before = _disk_use(folder)
    cached = scan_cache_dir(cache_root())
    # Copies of a repository have its commits: only this one is looked at.
    own = frozenset(repo for repo in cached.repos if repo.repo_path.name == folder.name)
    replace(cached, repos=own).delete_revisions(*commits).execute()
    if not any((folder / "snapshots").glob("*")):
        # What was never completed is no snapshot, and unknown to the hub's client.
        shutil.rmtree(folder, ignore_errors=True)
    return before - _disk_use(folder)


def _disk_use(folder: Path) -> int:
    files = (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)
    return sum(path.lstat().st_size for path in files)


@contextmanager
def _hub_errors(what: object) -> Iterator[None]:
    """Turn what the hub's client raises into `ModelUnusable`; what it tries again is not shown."""
    from huggingface_hub.utils.logging import set_verbosity

    set_verbosity(logging.ERROR)
    try:
        yield
    except ModelUnusable:
        raise
    except Exception as error:
        # The hub's client raises errors of several libraries; they differ by version.
        raise ModelUnusable(str(what), hub_reason(error)) from error


def hub_reason(error: BaseException) -> str:
    """What went wrong, in words for someone who typed a name; the cause knows best."""
    names = set()
    cause: BaseException | None = error
    while cause is not None:
        names.add(type(cause).__name__)
        cause = cause.__cause__ or cause.__context__
    if "GatedRepoError" in names:
        return "its hub repository asks for a login: accept its terms, then `hf auth login`"
    if "RevisionNotFoundError" in names:
        return "its hub repository has no such revision"
    if "RepositoryNotFoundError" in names:
        return "there is no such repository on the hub, or it needs a login (`hf auth login`)"
    if "OfflineModeIsEnabled" in names:
        return "HF_HUB_OFFLINE keeps it from asking the hub"
    if any("Timeout" in name or "Connect" in name for name in names):
        return "the hub can't be reached; check the network connection"
    reason = (isinstance(error, OSError) and error.strerror) or type(error).__name__
    return f"the exchange with the hub failed ({reason})"
