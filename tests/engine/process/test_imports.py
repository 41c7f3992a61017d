"""What the engine process computes with is imported quickly, and is the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from transformers.utils import import_utils

from mlxd.engine.process.imports import Exported, from_last_list, remembering

pytestmark = pytest.mark.mlx

COUNTING = """
import collections, sys
opened = collections.Counter()
def count(event, arguments):
    if event == "open" and "/transformers/models/" in str(arguments[0]):
        opened[str(arguments[0])] += str(arguments[0]).endswith(".py")
sys.addaudithook(count)
from mlxd.engine.process.imports import engine_imports
with engine_imports():
    import mlx_lm
import gc, transformers
again = sum(times > 1 for times in opened.values())
print(again < len(opened) / 20, gc.isenabled(), transformers.Qwen2Config.model_type)
"""


def test_the_files_of_transformers_are_looked_through_once(tmp_path: Path) -> None:
    # Nothing is known in a new home.
    variables = {**os.environ, "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", COUNTING],
        capture_output=True,
        text=True,
        check=True,
        env=variables,
    )
    assert done.stdout.split() == ["True", "True", "qwen2"]
    assert [path.name for path in tmp_path.rglob("*.json")] == ["transformers-models.json"]


def test_what_was_found_in_the_models_is_kept_until_something_changes(tmp_path: Path) -> None:
    models, file = tmp_path / "models", tmp_path / "cache" / "kept.json"
    for name in ("alpha", "beta"):
        (models / name).mkdir(parents=True)
        for kind in ("configuration", "tokenization"):
            code = f'class {name}{kind}: ...\n\n\n__all__ = ["{name}{kind}"]\n'
            (models / name / f"{kind}_{name}.py").write_text(code)
    (models / "__init__.py").write_text("")
    looked: list[str] = []

    def listed(path: Path, prefix: str | None = None) -> Exported:
        looked.append(path.name)
        import_utils.create_import_structure_from_path.cache_clear()
        found: Exported = import_utils.define_import_structure.__wrapped__(path, prefix)
        return found

    def told(version: str = "1") -> list[Exported]:
        find = remembering(listed, file, version)
        given = [find(models, prefix="models"), find(str(models / "__init__.py"))]
        assert given == [listed(models, "models"), listed(models)]
        del looked[-2:]
        return given

    first = told()
    assert sum(map(len, first[0].values())) == 4
    # The second time by what the first has kept.
    assert looked == ["models"]
    assert told() == first
    assert looked == ["models"]
    for damaged in (b"", b"{", b"\xff", b'[["1"], [[[], {"a": ["b"]}]]]', b"[[], [[], 1]]"):
        file.write_bytes(damaged)
        told()
    assert looked == ["models"] * 6
    told("2")
    (models / "beta" / "modeling_beta.py").write_text('__all__ = ["Model"]\n')
    assert told("2") != first
    assert looked == ["models"] * 8
    # A file may not be written, and the folders of single models are looked at as ever.
    file.unlink()
    file.mkdir()
    told()
    assert remembering(listed, file, "1")(models / "alpha") == listed(models / "alpha")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 1\n",
        '__all__ = ["One", "Two"]',
        'x = "__all__"\n__all__ = [\n    "One",\n    "Two",\n]\n\ny = 2\n',
        '__all__ = ["Old"]\nif x:\n    __all__ = []\n__all__ = ["New"]\n',
        '    __all__ = ["Indented"]\n',
    ],
)
def test_the_names_that_a_file_exports_are_found_as_transformers_finds_them(text: str) -> None:
    whole = import_utils.fetch__all__
    assert from_last_list(whole)(text) == whole(text)
