"""Load a model alone and tell what its rows may do.

`python -m mlxd.engine.process.row_probe SPEC`, where `SPEC` is a `ModelSpec` as JSON, prints JSON,
or why the model can't be used.

It runs as a process of its own, because a model's code may end it.
"""

import json
import sys

import msgspec

from mlxd.engine.process.blas import load_blas
from mlxd.engine.protocol import ModelSpec
from mlxd.errors import ModelUnusable


def main() -> int:
    """Load it as the engine process does."""
    (given,) = sys.argv[1:]
    spec = msgspec.json.decode(given, type=ModelSpec)
    load_blas()
    # MLX binds to the BLAS that is loaded first.
    from mlxd.engine.batching.row_trial import try_rows
    from mlxd.engine.models.loading import blaming, load

    try:
        loaded = load(spec)
        with blaming("it can't be run", spec):
            ability = try_rows(loaded.model, loaded.vocab_size)
    except ModelUnusable as error:
        sys.stdout.write(f"{error.reason}\n")
        return 1
    sys.stdout.write(json.dumps({"unbatched": ability.reason}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
