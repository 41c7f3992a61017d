"""What the hub gives: at a revision, from where it was broken off, and as it was promised."""

import os
from pathlib import Path

import pytest

from mlxd.engine.model_files.cache import PART, cache_root, folder_of
from mlxd.engine.model_files.integrity import judged
from mlxd.engine.model_files.library import locate, remove
from mlxd.engine.model_files.sources import repository
from mlxd.errors import ModelUnusable
from tests.engine.model_files.test_library import DOWNLOAD, run
from tests.fake_hub import COMMIT, REPOSITORY, blob_of, fake_hub
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.process

OTHER = "fedcba9876543210fedcba9876543210fedcba98"
PULLS = """
import json, sys
from mlxd.engine.model_files import library
from mlxd.errors import ModelUnusable
ends = []
for revision in ("", "@v1", "@v2"):
    try:
        ends.append(str(library.fetch(sys.argv[1] + revision).run(lambda *report: None)))
    except ModelUnusable as error:
        ends.append(error.reason)
print(json.dumps(ends))
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache that a process of `run` has, seen from here."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    return tmp_path / "huggingface" / "hub"


def test_a_download_goes_on_where_it_was_broken_off(tmp_path: Path, cache: Path) -> None:
    made = make_tiny_model(tmp_path / "made")
    weights = made / "model.safetensors"
    data, blob = weights.read_bytes(), blob_of(weights)
    part = folder_of(REPOSITORY) / "blobs" / f"{blob}{PART}"
    part.parent.mkdir(parents=True)
    part.write_bytes(data[:1000])
    with fake_hub(made) as served:
        done = run(DOWNLOAD, REPOSITORY, tmp_path, served)
    ranges = [where for path, where in served.asked if path.endswith("model.safetensors")]
    assert [where for where in ranges if where] == ["bytes=1000-"]
    assert (Path(done["folder"]) / "model.safetensors").read_bytes() == data
    assert [each[1] for each in done["seen"] if each[2]][0] == 1000
    assert not part.exists()


def test_what_is_not_as_promised_is_thrown_away(tmp_path: Path, cache: Path) -> None:
    made = make_tiny_model(tmp_path / "made")
    with fake_hub(made, lies=True) as served:
        said = run(DOWNLOAD, REPOSITORY, tmp_path, served)
    assert said["reason"].startswith("model.safetensors is not what the hub says it is")
    assert locate(REPOSITORY) is None
    assert list((folder_of(REPOSITORY) / "blobs").iterdir()) == []


def test_revisions_lie_side_by_side_and_go_one_by_one(tmp_path: Path, cache: Path) -> None:
    old, new = (make_tiny_model(tmp_path / name, seed=seed) for seed, name in enumerate("ab"))
    with fake_hub(new, revisions={"main": COMMIT, "v1": OTHER}) as served:
        served.folders[REPOSITORY, OTHER] = old
        *_, missing = run(PULLS, REPOSITORY, tmp_path, served)
    assert missing == "its hub repository has no such revision"
    here = {rev: locate(f"{REPOSITORY}{rev}") for rev in ("", "@v1", f"@{OTHER}", "@v2")}
    assert here[""] is not None
    assert here["@v1"] == here[f"@{OTHER}"]
    assert here["@v2"] is None
    assert here["@v1"] is not None
    assert (here["@v1"] / "model.safetensors").read_bytes() == (
        old / "model.safetensors"
    ).read_bytes()
    freed = remove(f"{REPOSITORY}@v1")
    assert freed >= (old / "model.safetensors").stat().st_size
    assert locate(f"{REPOSITORY}@v1") is None
    assert locate(REPOSITORY) == here[""]
    remove(REPOSITORY)
    assert not folder_of(REPOSITORY).exists()


def test_a_removed_copy_leaves_the_repository_with_the_same_commit(cache: Path) -> None:
    for name in ("one/model", "other/model"):
        make_tiny_model(folder_of(name) / "snapshots" / COMMIT)
        (folder_of(name) / "refs").mkdir()
        (folder_of(name) / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    remove("one/model")
    assert locate("one/model") is None
    assert locate("other/model") is not None


def test_a_download_that_was_broken_off_can_be_removed(cache: Path) -> None:
    part = folder_of("one/model") / "blobs" / f"{'0' * 64}{PART}"
    part.parent.mkdir(parents=True)
    part.write_bytes(bytes(500))
    assert remove("one/model") == 500
    assert not folder_of("one/model").exists()
    with pytest.raises(ModelUnusable, match="it is not here"):
        remove("one/model")


def test_each_file_is_judged_by_its_own_hash(tmp_path: Path, cache: Path) -> None:
    made = make_tiny_model(tmp_path / "made")
    snapshot = folder_of("one/model") / "snapshots" / COMMIT
    blobs = folder_of("one/model") / "blobs"
    for folder in (snapshot, blobs):
        folder.mkdir(parents=True)
    for path in made.iterdir():
        (blobs / blob_of(path)).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(os.path.relpath(blobs / blob_of(path), snapshot))
    (snapshot / "own.txt").write_text("no hash", encoding="utf-8")

    def states() -> dict[str, str]:
        return {each.name: each.state for each in judged(snapshot, lambda read: None)}

    assert set(states().values()) == {"ok", "unknown"}
    assert states()["own.txt"] == "unknown"
    weights = blobs / blob_of(made / "model.safetensors")
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    (blobs / blob_of(made / "config.json")).unlink()
    assert {name: state for name, state in states().items() if state not in ("ok", "unknown")} == {
        "model.safetensors": "damaged",
        "config.json": "missing",
    }


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HOME": "/a"}, "/a/hub"),
        ({"HF_HOME": "/a", "HF_HUB_CACHE": "/b"}, "/b"),
        ({"HUGGINGFACE_HUB_CACHE": "/c"}, "/c"),
        ({"XDG_CACHE_HOME": "/d"}, "/d/huggingface/hub"),
        ({"HF_HUB_CACHE": "$HF_HOME/x", "HF_HOME": "/a"}, "/a/x"),
    ],
)
def test_the_cache_is_where_the_hubs_client_has_it(
    variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_root() == Path(expected)


def test_a_repository_is_written_as_it_is_read() -> None:
    for text in ("owner/name", "owner/name@v1.0", "owner/name@refs/pr/3"):
        assert str(repository(text)) == text
