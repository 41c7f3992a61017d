"""`mlxd prefixes` and what `mlxd doctor` and `mlxd init` say of prefixes on the disk."""

import json
from pathlib import Path

from tests.engine.prefix_disk.test_spill import Kept, tokens
from tests.environment import Shell

ON = '[engine]\nprefix_disk_bytes = 1_000_000\nprefix_disk_path = "kept"\n'


def test_what_is_kept_is_shown_by_model_and_cleared(mlxd: Shell) -> None:
    Path("mlxd.toml").write_text(ON, encoding="utf-8")
    with Kept(Path("kept").absolute()) as run:
        run.write(tokens(40))
    shown = mlxd("prefixes")
    assert shown.code == 0
    assert "6.8 KB of 1.0 MB in 3 files" in shown.out
    assert "m\n" in shown.out
    facts = json.loads(mlxd("prefixes", "--json").out)
    assert (facts["entries"], facts["models"][0]["model"], facts["limit"]) == (3, "m", 1_000_000)
    assert "Removed 3 files" in mlxd("prefixes", "clear").out
    assert json.loads(mlxd("prefixes", "--json").out)["entries"] == 0
    assert not list(Path("kept").rglob("*.kv"))


def test_where_nothing_is_kept_that_is_said(mlxd: Shell) -> None:
    result = mlxd("prefixes")
    assert (result.code, result.err) == (0, "")
    assert "0 files" in result.out
    assert "engine.prefix_disk_bytes is 0" in result.out
    assert mlxd("prefixes", "clear").code == 0
    assert mlxd("prefixes", "claer").code == 2


def test_init_offers_it_in_words_and_leaves_it_off(mlxd: Shell) -> None:
    mlxd("init")
    text = Path("mlxd.toml").read_text(encoding="utf-8")
    assert "prefix_disk_bytes = 0\n" in text
    assert "# To let long conversations go on at once after a restart" in text
