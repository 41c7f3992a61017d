"""`mlxd models search`, `show`, `verify` and `rm`, and the schemas of what they print."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mlxd.admin_token import Access, published
from mlxd.engine.model_files.library import locate
from tests.environment import ROOT, Result, Shell, spawn
from tests.fake_hub import COMMIT, blob_of, fake_hub
from tests.tiny_model import make_tiny_model

PAGE = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
SCHEMAS: dict[str, Any] = {
    name: json.loads(text)
    for name, text in re.findall(r"(?ms)^## `(.*?)`\n\n```json\n(.*?)^```", PAGE)
}


def conforming(command: str, result: str) -> Any:
    """JSON that a command has printed, after a look at what the page says of it."""
    value = json.loads(result)
    jsonschema.validate(value, SCHEMAS[f"mlxd {command} --json"])
    return value


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model in the hub's cache as a download leaves it: links to blobs with names of hashes."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = make_tiny_model(tmp_path / "made")
    repository = tmp_path / "hub" / "models--owner--tiny"
    snapshot = repository / "snapshots" / COMMIT
    for folder in (snapshot, repository / "blobs", repository / "refs"):
        folder.mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    for path in made.iterdir():
        blob = blob_of(path)
        path.rename(repository / "blobs" / blob)
        (snapshot / path.name).symlink_to(f"../../blobs/{blob}")
    return snapshot


@pytest.mark.mlx
@pytest.mark.process
def test_show_tells_all_about_a_model(cached: Path, mlxd: Shell) -> None:
    Path("mlxd.toml").write_text(
        '[models.t]\nsource = "owner/tiny"\naliases = ["u"]\ncontext_length = 512\ntop_k = 7\n',
        encoding="utf-8",
    )
    shown = conforming("models show", mlxd("models", "show", "u", "--json").out)
    assert shown["aliases"] == ["t", "u"]
    assert (shown["state"], shown["revision"]) == ("ready", COMMIT)
    assert (shown["window"], shown["model_type"]) == (512, "llama")
    assert shown["folder"] == str(cached)
    assert {file["name"] for file in shown["files"]} >= {"config.json", "model.safetensors"}
    assert (shown["tools"], shown["tool_format"]) == ("template", "json_tools")
    assert shown["thinking"] == ["<think>", "</think>"]
    assert {"tools", "enable_thinking"} <= set(shown["template"])
    assert {"name": "top_k", "value": 7.0, "origin": "its table"} in shown["sampling"]


def test_show_tells_what_is_known_of_a_model_that_is_not_here(mlxd: Shell) -> None:
    result = mlxd("models", "show", "qwen3-4b", "--json")
    shown = conforming("models show", result.out)
    assert (result.code, shown["state"], shown["folder"]) == (1, "not downloaded", None)
    assert shown["bytes"] == 2_300_000_000
    lines = mlxd("models", "show", "qwen3-4b").out.splitlines()
    assert any(line.startswith("window    262,144 tokens, ") for line in lines)
    assert mlxd("models", "show", "nonsense").code == 2


def test_verify_names_what_is_damaged_and_what_to_do(cached: Path, mlxd: Shell) -> None:
    whole = mlxd("models", "verify", "owner/tiny", "--json")
    assert whole.code == 0
    assert conforming("models verify", whole.out)["ok"] is True
    blob = (cached / "model.safetensors").resolve()
    blob.write_bytes(blob.read_bytes()[:-1] + b"\0")
    damaged = mlxd("models", "verify", "owner/tiny")
    assert damaged.code == 1
    assert "damaged  model.safetensors" in damaged.out
    assert f"remove {blob}, then mlxd pull owner/tiny" in damaged.err
    states = {
        file["name"]: file["state"]
        for file in conforming(
            "models verify", mlxd("models", "verify", "owner/tiny", "--json").out
        )["files"]
    }
    assert states.pop("model.safetensors") == "damaged"
    assert set(states.values()) == {"ok"}
    assert mlxd("models", "verify", "owner/other").code == 1


def test_rm_leaves_what_a_table_names_and_what_is_no_download(
    cached: Path, mlxd: Shell, tmp_path: Path
) -> None:
    Path("mlxd.toml").write_text('[models.t]\nsource = "owner/tiny"\n', encoding="utf-8")
    refused = mlxd("models", "rm", "owner/tiny")
    assert refused.code == 1
    assert "[models.t] of mlxd.toml names it. --force removes it all the same." in refused.err
    own = make_tiny_model(tmp_path / "own")
    assert "it is a folder of yours" in mlxd("models", "rm", str(own)).err
    assert locate("owner/tiny") == cached
    assert mlxd("models", "rm", "t", "--force").out == "Removed owner/tiny, 0.0 GB.\n"
    assert not cached.parent.parent.exists()
    assert "it is not here" in mlxd("models", "rm", "owner/tiny").err


def test_rm_leaves_what_a_server_has_loaded(cached: Path, mlxd: Shell) -> None:
    with (
        fake_hub(
            status={"engine": {"models": [{"id": "x", "state": "loaded", "source": "owner/tiny"}]}}
        ) as server,
        published(Access(server.address, "token" * 4)),
    ):
        refused = mlxd("models", "rm", "owner/tiny")
    assert refused.code == 1
    assert f"the server at {server.address} has it loaded as x" in refused.err
    assert mlxd("models", "rm", "owner/tiny").code == 0


LISTED = [
    {
        "id": "owner/tiny",
        "downloads": 1_200_300,
        "gated": False,
        "safetensors": {"parameters": {"U32": 2 * 10**9, "F16": 10**9}, "total": 0},
    },
    {"id": "owner/tiny-huge", "safetensors": {"parameters": {"BF16": 10**13}}},
    {"id": "owner/tiny-closed", "downloads": 3, "gated": "manual"},
    {"id": "owner/tiny\x1b[31m--evil", "downloads": 2},
    {"id": "owner/other", "downloads": 1},
]


@pytest.mark.process
def test_search_asks_the_hub_and_without_it_the_catalogue(cached: Path, tmp_path: Path) -> None:
    with fake_hub(listed=LISTED) as hub:
        variables = {**hub.environment(tmp_path / "home"), "HF_HUB_CACHE": str(tmp_path / "hub")}
        found = spawn("models", "search", "TINY", "owner", "--json", **variables)
        assert found.returncode == 0, found.stderr
        table = spawn("models", "search", "tiny", **variables)
        nothing = spawn("models", "search", "nothing", **variables)
    report = conforming("models search", found.stdout)
    assert report["asked"] == "hub"
    first, huge, closed = report["models"]
    assert (first["source"], first["bytes"], first["here"]) == ("owner/tiny", 10**10, True)
    assert (huge["fits"], closed["gated"], closed["bytes"]) == (False, True, None)
    lines = table.stdout.splitlines()
    assert re.fullmatch(r"owner/tiny +10\.0 GB +1,200,300 +here", lines[1])
    assert lines[3].endswith("asks for a login")
    assert nothing.returncode == 1
    away = spawn("models", "search", "coder", "--json", **variables)
    assert "the hub can't be reached" in away.stderr
    fallen_back = conforming("models search", away.stdout)
    assert fallen_back["asked"] == "catalogue"
    assert all("coder" in model["source"].lower() for model in fallen_back["models"])


def outputs(mlxd: Shell) -> Iterator[tuple[str, Result]]:
    for command in ("models", "models --recommended", "config show", "doctor"):
        yield command, mlxd(*command.split(), "--json")


def test_what_commands_print_is_as_the_page_says(
    cached: Path, mlxd: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # An MLX that can't be loaded makes `doctor` quick.
    broken = tmp_path / "broken" / "mlx"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text('raise ImportError("no such chip")', encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", f"{broken.parent}:{ROOT}")
    Path("mlxd.toml").write_text(
        '[server]\nport = 0\napi_keys = ["secret"]\n[models.d]\nsource = "./nowhere"\n',
        encoding="utf-8",
    )
    found = {command: conforming(command, result.out) for command, result in outputs(mlxd)}
    d, tiny = found["models"]
    assert (d["alias"], d["state"], d["bytes"], d["default"]) == ("d", "no such folder", None, True)
    assert (tiny["alias"], tiny["state"], tiny["window"]) == ("", "not configured", 2048)
    assert found["doctor"]["ok"] is False
    assert found["config show"]["file"] == str(Path("mlxd.toml").absolute())
    keys = {entry["key"]: entry for entry in found["config show"]["values"]}
    assert keys["server.api_keys"]["value"] == ["****"]
    assert keys["server.port"] == {"key": "server.port", "value": 0, "origin": "file"}


def test_config_show_takes_a_key_or_a_table(mlxd: Shell) -> None:
    assert len(mlxd("config", "show", "log.level").out.splitlines()) == 2
    assert len(mlxd("config", "show", "log").out.splitlines()) == 3
    assert mlxd("config", "show", "lo").code == 2
