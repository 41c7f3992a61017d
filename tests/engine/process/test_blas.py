"""OpenBLAS answers MLX's matrix products. Each case is a process: a BLAS is chosen once."""

import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.mlx,
    pytest.mark.skipif(
        (sys.platform, platform.machine()) != ("linux", "x86_64"),
        reason="the OpenBLAS that comes with mlxd is for Linux on x86-64",
    ),
]

MEASURE = """
import json, time
from mlxd.engine.process.blas import load_blas
blas = load_blas()
import mlx.core as mx
a, b = mx.random.normal((512, 512)), mx.random.normal((512, 512))
mx.eval(a, b)
best = float("inf")
for _ in range(30):
    start = time.process_time()
    mx.eval(a @ b)
    best = min(best, time.process_time() - start)
print(json.dumps({"blas": blas, "seconds": best}))
"""

REST = """
import time
from mlxd.engine.process.blas import load_blas
load_blas()
import mlx.core as mx
a = mx.random.normal((512, 512))
mx.eval(a @ a)
before = time.process_time()
time.sleep(1.0)
print(time.process_time() - before)
"""


def run(code: str, **variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "MLXD_BLAS"} | variables
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout.strip()


def describe(**variables: str) -> str:
    return run("from mlxd.engine.process.blas import load_blas; print(load_blas())", **variables)


def test_openblas_answers_matrix_products_several_times_faster() -> None:
    # Processor time of one thread each: other programs on the machine don't change it.
    fast = json.loads(run(MEASURE, OPENBLAS_NUM_THREADS="1"))
    slow = json.loads(run(MEASURE, MLXD_BLAS="reference"))
    assert slow["seconds"] / fast["seconds"] > 4, (fast, slow)
    assert re.fullmatch(r"OpenBLAS [\d.]+ \(\w+, \d+ threads?\)", fast["blas"])
    assert slow["blas"] == "reference (MLXD_BLAS=reference)"


def test_the_description_follows_the_thread_count() -> None:
    assert describe(OPENBLAS_NUM_THREADS="1").endswith(", 1 thread)")


def test_threads_sleep_soon_after_the_last_product() -> None:
    # By itself OpenBLAS would spin for 2^26 cycles, 20 ms and more.
    assert float(run(REST, OPENBLAS_NUM_THREADS="2")) < 0.01


@pytest.mark.skipif(os.cpu_count() == 1, reason="a single core has no other thread that spins")
def test_how_long_threads_spin_is_the_users_to_change() -> None:
    assert float(run(REST, OPENBLAS_NUM_THREADS="2", OPENBLAS_THREAD_TIMEOUT="30")) > 0.03


def test_openblas_loads_without_a_fortran_runtime_of_the_system() -> None:
    code = (
        "from mlxd.engine.process import blas; print(blas.describe(blas._bundled_beside_fortran()))"
    )
    assert run(code).startswith("OpenBLAS ")


def test_the_folder_of_links_is_gone_after_loading(tmp_path: Path) -> None:
    describe(TMPDIR=str(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_without_any_openblas_the_description_names_the_remedy() -> None:
    # `-S` hides the installed packages; the system may still have an OpenBLAS of its own.
    package = str(Path(__file__).resolve().parents[3])
    code = (
        f"import sys; sys.path.insert(0, {package!r})\n"
        "from mlxd.engine.process.blas import load_blas; print(load_blas())"
    )
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [sys.executable, "-S", "-E", "-c", code],
            env={"TMPDIR": empty, "LD_LIBRARY_PATH": ""},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    said = done.stdout.strip()
    assert said.startswith("OpenBLAS ") or said.startswith("reference (slow): install OpenBLAS")


def test_loading_after_mlx_is_reported_as_too_late() -> None:
    code = "import mlx.core; from mlxd.engine.process.blas import load_blas; print(load_blas())"
    assert run(code).startswith("reference (slow): MLX was imported before")
