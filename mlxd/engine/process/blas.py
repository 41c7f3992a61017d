"""Which BLAS answers MLX's float32 matrix products on Linux.

PyPI's `mlx-cpu` links the reference BLAS, which runs far below the machine. The dynamic linker
takes a symbol from the first library that offers it, so an OpenBLAS that is loaded globally before
`mlx.core` answers instead. Nothing here imports MLX.
"""

import ctypes
import os
import sys
import tempfile
from functools import partial
from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

SWITCH = "MLXD_BLAS"
"""Environment variable; `reference` keeps the BLAS that MLX was linked with."""
REMEDY = "install OpenBLAS, for example `apt install libopenblas0`"
NVIDIA = Path("/proc/driver/nvidia/gpus")
"""There where a driver has found GPUs."""
SPIN = "OPENBLAS_THREAD_TIMEOUT"
"""OpenBLAS's environment variable for how long an idle thread spins until it sleeps: 2^n cycles."""
SPIN_BITS = "18"
"""What it is set to unless the user did.

With its own 2^26 a thread never sleeps while a model decodes. It spins through all that is no
matrix product, on a core that MLX, the server or another program could use.
"""


def load_blas() -> str:
    """Load the best BLAS there is and say which; must run before MLX is imported. Never raises."""
    if sys.platform == "darwin":
        return "Accelerate"
    if NVIDIA.exists() and not _is_installed("mlx-cpu"):
        return "none: the GPU computes"
    if os.environ.get(SWITCH) == "reference":
        return f"reference ({SWITCH}=reference)"
    if "mlx.core" in sys.modules:
        return "reference (slow): MLX was imported before OpenBLAS could be loaded"
    os.environ.setdefault(SPIN, SPIN_BITS)
    for candidate in (_bundled, _bundled_beside_fortran, partial(_load, "libopenblas.so.0")):
        library = candidate()
        # MLX calls the C interface, which a system's plain BLAS may come without.
        if library is not None and hasattr(library, "cblas_sgemm"):
            return describe(library)
    return f"reference (slow): {REMEDY}"


def _is_installed(package: str) -> bool:
    try:
        distribution(package)
    except PackageNotFoundError:
        return False
    return True


def describe(library: ctypes.CDLL) -> str:
    """Name, version, kernels and threads of a loaded BLAS, as far as it tells them."""
    if not hasattr(library, "openblas_get_config"):
        return "a BLAS of the system"
    words = _text(library, "openblas_get_config").split()
    name = " ".join(words[:2]) or "OpenBLAS"
    core = _text(library, "openblas_get_corename")
    threads = library.openblas_get_num_threads()
    return f"{name} ({core}, {threads} thread{'' if threads == 1 else 's'})"


def _text(library: ctypes.CDLL, function: str) -> str:
    call = getattr(library, function)
    call.restype = ctypes.c_char_p
    answer = call() or b""
    return bytes(answer).decode("utf-8", "replace")


def _load(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return None


def _bundled() -> ctypes.CDLL | None:
    """The package's OpenBLAS as it is, which needs a libgfortran of the system."""
    openblas = _openblas_file()
    return _load(str(openblas)) if openblas is not None else None


def _openblas_file() -> Path | None:
    """The library that the package `ngsolve-openblas` carries."""
    try:
        spec = find_spec("ngsolve_openblas")
    except (ImportError, ValueError):
        return None
    folders = spec.submodule_search_locations if spec is not None else None
    found = sorted(path for folder in folders or () for path in Path(folder).glob("libopenblas*"))
    return found[0] if found else None


def _bundled_beside_fortran() -> ctypes.CDLL | None:
    """The package's OpenBLAS with the libgfortran that `mlx-cpu` carries.

    OpenBLAS looks for it in its own folder, so a folder of links makes the two neighbours. What is
    loaded stays mapped when the folder is gone.
    """
    openblas = _openblas_file()
    try:
        libraries = Path(str(distribution("mlx-cpu").locate_file("mlx_cpu.libs")))
        fortran = next(libraries.glob("libgfortran*.so.5*"), None)
        if openblas is None or fortran is None:
            return None
        with tempfile.TemporaryDirectory(prefix="mlxd-blas-") as folder:
            for library in libraries.iterdir():
                (Path(folder) / library.name).symlink_to(library)
            (Path(folder) / "libgfortran.so.5").symlink_to(fortran)
            link = Path(folder) / openblas.name
            link.symlink_to(openblas)
            return _load(str(link))
    except (OSError, PackageNotFoundError):
        return None
