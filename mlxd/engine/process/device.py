"""What MLX computes on: whether it still does, and how much memory it has for models."""

import logging
import os
from pathlib import Path

import mlx.core as mx

from mlxd.engine.process.wired_memory import RECOMMENDED

CPU_SHARE, CUDA_SHARE = 0.75, 0.9
"""Share of the machine's, or of the GPU's own, memory that models may use."""

log = logging.getLogger(__name__)


def device_computes() -> bool:
    """Whether MLX still computes what it should."""
    try:
        return mx.sum(mx.ones(8)).item() == 8
    except Exception:
        log.exception("the device computes nothing any more")
        return False


def measured_memory() -> int:
    """Bytes that weights and KV cache may take together on this machine."""
    if mx.default_device().type != mx.cpu:
        info = mx.device_info()
        if recommended := info.get(RECOMMENDED):
            return int(recommended)
        if own := info.get("total_memory"):
            return int(int(own) * CUDA_SHARE)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # In a container `sysconf` still says what the whole machine has.
    container = Path("/sys/fs/cgroup/memory.max")
    if container.exists() and (limit := container.read_text().strip()).isdigit():
        total = min(total, int(limit))
    return int(total * CPU_SHARE)
