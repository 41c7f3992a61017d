"""How the answers of models will be read.

`python -m mlxd.engine.process.format_probe` takes a list of `ModelSpec` as JSON, with a folder
as `source`, and prints an `AnswerFormat` for each, null where there is none to tell.

It loads tokenizers only, in a process of its own, because their library loads MLX.
"""

import logging
import sys
from pathlib import Path

import msgspec

from mlxd.engine.process.blas import load_blas
from mlxd.engine.protocol import ModelSpec
from mlxd.status import AnswerFormat


def answer_format(spec: ModelSpec) -> AnswerFormat | None:
    """What is found out of one model's files; None where they can't be read."""
    from mlx_lm.utils import load_tokenizer

    from mlxd.engine.prompt.markup_detection import read_format

    options = {"trust_remote_code": spec.trust_remote_code, "local_files_only": True}
    try:
        return read_format(load_tokenizer(Path(spec.source), options), spec).answer
    except Exception:  # Tokenizers raise what they like; whether a model loads is told elsewhere.
        logging.getLogger(__name__).warning("reading %s failed", spec.id, exc_info=True)
        return None


def main() -> None:
    """Answer for the models on standard input."""
    specs = msgspec.json.decode(sys.stdin.buffer.read(), type=list[ModelSpec])
    load_blas()
    sys.stdout.write(msgspec.json.encode([answer_format(spec) for spec in specs]).decode() + "\n")


if __name__ == "__main__":
    main()
