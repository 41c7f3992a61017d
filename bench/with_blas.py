"""Runs a module the way the engine process runs: with the fast BLAS loaded before MLX.

python -m bench.with_blas mlx_lm.server --model FOLDER
"""

import runpy
import sys

from mlxd.engine.process.blas import load_blas


def main() -> None:
    load_blas()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
