"""`mlxd serve`, up to the server."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from mlxd.commands.options import alias_for, as_source
from mlxd.commands.serve import choose
from mlxd.config.settings import ModelSettings, Settings
from mlxd.errors import ConfigError
from tests.environment import ROOT, Shell, spawn


def test_serve_with_an_unknown_model_says_what_there_is(mlxd: Shell) -> None:
    Path("mlxd.toml").write_text('[models.qwen]\nsource = "demo"\n', encoding="utf-8")
    result = mlxd("serve", "--model", "qwem")
    assert result.code == 2
    assert result.err.startswith(
        'command line: --model: "qwem" is neither a configured alias nor a source. '
        'Did you mean "qwen"?'
    )


def test_serve_refuses_the_network_without_keys(mlxd: Shell) -> None:
    result = mlxd("serve", "--host", "0.0.0.0")
    assert result.code == 2
    assert result.err.startswith("command line: server.host: ")


CONFIGURED = Settings(
    models={
        "a": ModelSettings(source="owner/a", aliases=("gpt-4o", "b-2")),
        "b": ModelSettings(source="owner/b"),
        "demo": ModelSettings(source="owner/other"),
    }
)


@pytest.mark.parametrize(
    ("settings", "name", "flags"),
    [
        (Settings(), None, {"models": {"demo": {"source": "demo"}}, "defaults.model": "demo"}),
        (CONFIGURED, None, {}),
        (CONFIGURED, "b", {"defaults.model": "b"}),
        (CONFIGURED, "gpt-4o", {"defaults.model": "a"}),
        (CONFIGURED, "owner/b", {"defaults.model": "b"}),
        (CONFIGURED, "demo", {"defaults.model": "demo"}),
        (CONFIGURED, "else/b", {"models": {"b-3": {"source": "else/b"}}, "defaults.model": "b-3"}),
        (CONFIGURED, "else/c", {"models": {"c": {"source": "else/c"}}, "defaults.model": "c"}),
        (
            Settings(),
            "else/c@v1.0",
            {"models": {"c": {"source": "else/c@v1.0"}}, "defaults.model": "c"},
        ),
        (
            CONFIGURED,
            "Qwen3-4b",
            {
                "models": {"qwen3-4b": {"source": "mlx-community/Qwen3-4B-Instruct-2507-4bit"}},
                "defaults.model": "qwen3-4b",
            },
        ),
    ],
)
def test_serve_finds_or_adds_the_model(
    settings: Settings, name: str | None, flags: dict[str, object]
) -> None:
    assert choose(settings, [name] if name else []) == flags


def test_serve_takes_several_models_and_the_first_is_the_default() -> None:
    assert choose(CONFIGURED, ["one/x", "gpt-4o", "two/x", "one/x"]) == {
        "models": {"x": {"source": "one/x"}, "x-2": {"source": "two/x"}},
        "defaults.model": "x",
    }
    assert choose(CONFIGURED, ["gpt-4o", "b"]) == {"defaults.model": "a"}


@pytest.mark.parametrize(
    "name",
    [
        *("", "..", "a/b/c", "/nowhere", "./nowhere", "a b", "é/x", "-/x", "~nobody/x", "a\0b"),
        *("a/b@", "a/b@../x", "a/b@x//y", "a/b@/x", "a/b@v 1", "a/../b", "a--b/c", "a/b@v1@v2"),
        *("a/b?x=1", "a/b#c", "a/b%2f..", "../a/b", "a/" + "b" * 300, "x" * 5000),
    ],
)
def test_serve_refuses_what_is_no_source(name: str) -> None:
    with pytest.raises(ConfigError):
        choose(CONFIGURED, [name])


@pytest.mark.parametrize(
    "page",
    [
        *("https://huggingface.co/owner/name", "http://hf.co/owner/name/", "HF.co/owner/name"),
        *("huggingface.co/owner/name/tree/main", "https://hf.co/owner/name?library=mlx#files"),
    ],
)
def test_the_address_of_a_repository_is_a_source(page: str) -> None:
    assert as_source(page) == "owner/name"


@pytest.mark.parametrize(
    ("page", "source"),
    [
        ("https://hf.co/owner/name/tree/v2", "owner/name@v2"),
        ("https://huggingface.co/owner/name/blob/v2/config.json", "owner/name@v2"),
        ("https://hf.co/owner/name/tree/refs%2Fpr%2F3", "owner/name@refs/pr/3"),
        ("https://huggingface.co/owner/name/commit/" + "ab" * 20, "owner/name@" + "ab" * 20),
        ("https://huggingface.co/owner/name/discussions/7", "owner/name"),
        ("owner/name@main", "owner/name"),
    ],
)
def test_a_source_may_name_a_revision(page: str, source: str) -> None:
    assert as_source(page) == source


@pytest.mark.parametrize(
    "other",
    [
        *("https://hf.co/owner", "https://hf.co/owner/name/settings", "https://example.org/a/b"),
        *("https://hf.co.example/a/b", "https://huggingface.co/datasets/a/b"),
        *("https://hf.co/collections/x", "https://hf.co/owner/name/tree/..%2F..%2Fx"),
    ],
)
def test_other_addresses_are_no_sources(other: str) -> None:
    assert as_source(other) is None


@pytest.mark.parametrize(
    ("source", "alias"),
    [
        ("demo", "demo"),
        ("mlx-community/Qwen3-4B-4bit", "Qwen3-4B-4bit"),
        ("/some/where/my model (2)", "my-model--2"),
        ("/", "model"),
        ("x/" + "y" * 300, "y" * 128),
    ],
)
def test_aliases_are_made_from_sources(source: str, alias: str) -> None:
    assert alias_for(source) == alias
    assert Settings(models={alias: ModelSettings(source=source)})


def test_a_folder_with_a_model_is_a_source_by_its_bare_name(tmp_path: Path) -> None:
    Path("plain").mkdir()
    Path("plain-model").mkdir()
    Path("plain-model/config.json").write_text("{}", encoding="utf-8")
    assert as_source("plain") is None
    assert as_source("./plain") == str(tmp_path / "work" / "plain")
    assert as_source("plain-model") == str(tmp_path / "work" / "plain-model")


def served(*args: str) -> "subprocess.Popen[str]":
    """`mlxd serve` with a scripted engine, as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "mlxd", "serve", "--scripted", "agent", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "MLXD_SERVER__PORT": "1"},
    )


def test_serve_serves_the_demo_without_a_file_and_says_so() -> None:
    with served("--port", "0") as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[-1]
            with urllib.request.urlopen(f"{url}/v1/models", timeout=10) as response:
                listed = json.load(response)
        finally:
            process.send_signal(signal.SIGTERM)
        _, told = process.communicate(timeout=30)
    assert [model["id"] for model in listed["data"]] == ["demo"]
    assert "No model is configured: serving the demo model as `demo`." in told
    assert process.returncode == 0


def test_serve_says_early_that_a_model_is_not_here() -> None:
    text = '[models.a]\nsource = "demo"\n[models.b]\nsource = "./nowhere"\n'
    Path("mlxd.toml").write_text(text, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = spawn("serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 3
    assert done.stderr.splitlines()[:2] == [
        "mlxd: the model a can't be served: not downloaded. Fetch it: mlxd pull demo",
        "mlxd: the model b can't be served: no such folder.",
    ]
    assert len(done.stderr.splitlines()) == 3
