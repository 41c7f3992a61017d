"""Models that run code of their own, as `trust_remote_code` lets them."""

import json
from pathlib import Path

from tests.tiny_model import make_tiny_model

LLAMA = "from mlx_lm.models.llama import Model as Llama, ModelArgs\nimport os, sys\n"
PLAIN = LLAMA + "Model = Llama\n"
REFUSES_TWO = (
    LLAMA
    + """
class Model(Llama):
  def __call__(self, inputs, cache=None):
    if len(inputs) > 1:
      raise ValueError("rows")
    return super().__call__(inputs, cache=cache)
"""
)


def with_code(folder: Path, code: str) -> Path:
    """A tiny model whose architecture is `code`."""
    make_tiny_model(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_file": "own.py"}))
    (folder / "own.py").write_text(code)
    return folder
