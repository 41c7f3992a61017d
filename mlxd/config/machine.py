"""What this machine has, without asking MLX."""

import os
import resource
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CGROUP_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)
STATM = Path("/proc/self/statm")
BACKENDS = ("mlx-metal", "mlx-cpu", "mlx-cuda-12", "mlx-cuda-13")
GPU_SHARE = 0.75
"""Of unified memory; about what macOS lets the GPU keep wired."""


def memory_bytes() -> int:
    """Memory of the machine, or of the container this runs in if that may use less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *filter(None, map(_limit, CGROUP_LIMITS))])


def resident_bytes() -> int:
    """Memory of this process now; the most it ever had where that is all that is known."""
    try:
        pages = int(STATM.read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else 1024 * peak
    return pages * os.sysconf("SC_PAGE_SIZE")


def _limit(path: Path) -> int:
    """A container's limit in bytes; 0 for none."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except OSError:
        return 0
    return int(text) if text.isdigit() else 0


def model_memory_bytes() -> int:
    """Memory that a model and its KV cache can take without pushing out everything else."""
    return int(memory_bytes() * GPU_SHARE)


def backends() -> list[str]:
    """The packages with which MLX computes that are installed, of which there should be one."""
    return [name for name in BACKENDS if _is_installed(name)]


def _is_installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def has_gpu() -> bool:
    """Whether MLX computes on a GPU here: always on a Mac, elsewhere with a backend for CUDA."""
    return sys.platform == "darwin" or any(name.startswith("mlx-cuda") for name in backends())
