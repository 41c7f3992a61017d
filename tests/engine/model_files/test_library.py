"""Models on this machine and from a hub, which here is a small server on this machine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlxd.engine.model_files.library import locate, size_on_disk, state_of_files
from tests.fake_hub import REPOSITORY, FakeHub, fake_hub
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx

DOWNLOAD = """
import json, sys
from mlxd.engine.model_files import library
from mlxd.errors import ModelUnusable
seen = []
try:
    folder = library.fetch(sys.argv[1]).run(lambda *report: seen.append(report))
    print(json.dumps({"folder": str(folder), "seen": seen}))
except ModelUnusable as error:
    print(json.dumps({"reason": error.reason}))
"""
LOOK = """
import json, sys
from mlxd.engine.model_files import library
found = library.locate(sys.argv[1])
here = [[one.source, one.bytes] for one in library.downloaded()]
heavy = [name for name in ("mlx", "mlx_lm", "transformers") if name in sys.modules]
print(json.dumps({"found": found and str(found), "here": here, "heavy": heavy}))
"""


def run(code: str, source: str, home: Path, hub: FakeHub | None = None) -> Any:
    """What `code` prints, in a process with a hub cache of its own."""
    settings = (hub or FakeHub({}, address="http://127.0.0.1:9")).environment(home)
    done = subprocess.run(
        [sys.executable, "-c", code, source],
        env={k: v for k, v in os.environ.items() if not k.startswith("HF_")} | settings,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "it/s" not in done.stderr
    return json.loads(done.stdout)


def test_a_hub_model_is_downloaded_found_and_listed(tmp_path: Path) -> None:
    made = make_tiny_model(tmp_path / "made")
    (made / "evil.py").write_text("1 / 0")
    (made / "pytorch_model.bin").write_bytes(b"\x80")
    (made / "consolidated.safetensors").write_bytes(b"")
    with fake_hub(made) as hub:
        done = run(DOWNLOAD, REPOSITORY, tmp_path, hub)
        again = run(DOWNLOAD, REPOSITORY, tmp_path, hub)
    folder = Path(done["folder"])
    names = {path.name for path in folder.iterdir()}
    assert names == {path.name for path in made.iterdir()} - {
        *("evil.py", "pytorch_model.bin", "consolidated.safetensors")
    }
    total = sum((made / name).stat().st_size for name in names)
    measured = [report for report in done["seen"] if report[2]]
    assert measured[0] == ["download", 0, total]
    assert measured[-1] == ["download", total, total]
    assert again["folder"] == str(folder)
    assert all(report == ["download", total, total] for report in again["seen"])

    here = run(LOOK, REPOSITORY, tmp_path)
    assert here == {
        "found": str(folder),
        "here": [[REPOSITORY, size_on_disk(folder)]],
        "heavy": [],
    }


def test_a_repository_that_does_not_exist_is_named_as_the_reason(tmp_path: Path) -> None:
    with fake_hub(make_tiny_model(tmp_path / "made")) as hub:
        said = run(DOWNLOAD, "somebody/else", tmp_path, hub)
    assert "no such repository" in said["reason"]


def test_a_repository_without_safetensors_is_not_downloaded(tmp_path: Path) -> None:
    made = make_tiny_model(tmp_path / "made")
    (made / "model.safetensors").rename(made / "model.gguf")
    with fake_hub(made) as hub:
        said = run(DOWNLOAD, REPOSITORY, tmp_path, hub)
    assert "no model*.safetensors" in said["reason"]
    assert not list((tmp_path / "huggingface").rglob("config.json"))


def test_a_hub_out_of_reach_is_said_in_words(tmp_path: Path) -> None:
    said = run(DOWNLOAD, REPOSITORY, tmp_path)
    assert "can't be reached" in said["reason"]


@pytest.mark.parametrize(
    "source", ["nonsense", "a/b/c", "../x", "", "/no/such/folder", "~nobody/x"]
)
def test_what_is_no_model_is_not_found_and_not_asked_for(source: str, tmp_path: Path) -> None:
    assert locate(source) is None
    assert "neither a folder" in run(DOWNLOAD, source, tmp_path)["reason"]


def test_compiled_code_beside_a_model_changes_none_of_its_files(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path)
    (folder / "own.py").write_text("Model = None\n")
    before = state_of_files(str(folder))
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "own.cpython-311.pyc").write_bytes(b"compiled")
    assert state_of_files(str(folder)) == before
    (folder / "own.py").write_text("Model = dict\n")
    assert state_of_files(str(folder)) != before


def test_a_folder_is_found_as_it_is(tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path / "tiny")
    assert locate(str(folder)) == folder
    assert size_on_disk(folder) == (folder / "model.safetensors").stat().st_size
    relative = os.path.relpath(folder)
    assert locate(relative) == Path(relative).absolute()
