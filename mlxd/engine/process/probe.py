"""Facts about the engine on this machine, and about models.

`python -m mlxd.engine.process.probe` takes a list of models as JSON, each a `ModelSpec` and whether
to load it, and prints JSON lines: a `Ready`, then a `ModelChanged` for each model, in their order.

It runs as a process of its own, because MLX may fail to load and its users must not load it, and
because a model's code may end it: the model whose line is missing has.
"""

import logging
import os
import sys
from pathlib import Path

import msgspec

from mlxd.engine.process.imports import engine_imports
from mlxd.engine.protocol import ModelChanged, ModelSpec, Ready
from mlxd.errors import ModelUnusable
from mlxd.status import AnswerFormat

SIDE = 64
"""Rows and columns of the matrices that are tried."""


def tried(spec: ModelSpec) -> ModelChanged:
    """What comes of loading a model as the engine process does."""
    from mlxd.engine.models.loading import blaming, load, unload
    from mlxd.engine.process.known_trials import KnownTrials

    try:
        loaded = load(spec)
        with blaming("it can't be run", spec):
            ability, known = KnownTrials().ability(loaded)
    except ModelUnusable as error:
        return ModelChanged(spec.id, "failed", reason=error.reason)
    unload(loaded)
    return ModelChanged(
        *(spec.id, "loaded"),
        reason="tried before" if known else "",
        answers=loaded.format.answer,
        unbatched=ability.reason,
    )


def answer_format(spec: ModelSpec) -> AnswerFormat | None:
    """How a model's answers will be read, by its tokenizer alone; None where it can't be used."""
    from mlx_lm.utils import load_tokenizer

    from mlxd.engine.model_files.library import locate
    from mlxd.engine.prompt.markup_detection import read_format

    options = {"trust_remote_code": spec.trust_remote_code, "local_files_only": True}
    try:
        tokenizer = load_tokenizer(Path(str(locate(spec.source))), options)
        return read_format(tokenizer, spec).answer
    except Exception:  # Tokenizers raise what they like; whether a model loads is told elsewhere.
        logging.getLogger(__name__).warning("reading %s failed", spec.id, exc_info=True)
        return None


def check_product() -> None:
    """End the process with the reason where a product of matrices comes out wrong."""
    import mlx.core as mx

    found = mx.ones((SIDE, SIDE)) @ mx.ones((SIDE, SIDE))
    if not mx.all(found == SIDE).item():
        sys.exit(f"a product of matrices is wrong on {mx.default_device()}: {found[0, 0].item()}")


def main() -> None:
    """Answer for this machine and for the models on standard input."""
    models = msgspec.json.decode(sys.stdin.buffer.read(), type=list[tuple[ModelSpec, bool]])
    # What a model's code prints is not among the lines.
    lines = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    with engine_imports() as blas:
        from mlxd.engine.process.device import measured_memory
        from mlxd.engine.process.wired_memory import hold_wired_limit
        from mlxd.engine.process.worker import device_name
    hold_wired_limit(wired=False)
    check_product()
    lines.write(msgspec.json.encode(Ready(device_name(), blas, measured_memory())) + b"\n")
    for spec, load in models:
        told = (
            tried(spec) if load else ModelChanged(spec.id, "unloaded", answers=answer_format(spec))
        )
        lines.write(msgspec.json.encode(told) + b"\n")


if __name__ == "__main__":
    main()
