"""What the engine process computes with is imported quickly, and is the same."""

import subprocess
import sys

import pytest
from transformers.utils import import_utils

from mlxd.engine.process.imports import from_last_list

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


def test_the_files_of_transformers_are_looked_through_once() -> None:
    done = subprocess.run(
        [sys.executable, "-c", COUNTING], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["True", "True", "qwen2"]


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
