"""Facts about the engine on this machine.

`python -m mlxd.engine.process.probe` prints them as JSON.

It runs as a process of its own, because MLX may fail to load and its users must not load it.
"""

import json
import sys
from importlib.metadata import version

from mlxd.engine.process.blas import load_blas


def main() -> None:
    """Load what the engine process loads and tell what came of it."""
    blas = load_blas()

    from mlxd.engine.process.model_pool import measured_memory
    from mlxd.engine.process.worker import device_name

    facts = {
        "mlx": version("mlx"),
        "mlx_lm": version("mlx-lm"),
        "device": device_name(),
        "memory": measured_memory(),
        "blas": blas,
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
