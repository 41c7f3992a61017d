"""How the C library keeps the memory that was freed."""

import ctypes
import sys

M_MMAP_THRESHOLD = -3
"""From glibc's malloc.h."""
LARGE = 256 * 1024
"""Bytes from which a block is mapped on its own, and goes back to the system when it is freed."""


def return_freed_memory() -> None:
    """Keep large blocks out of the heap, where a later small one would hold on to their memory.

    glibc begins like this, but takes larger and larger blocks from the heap once some were freed: a
    few bodies of some megabytes would leave the server several hundred megabytes larger for good.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_THRESHOLD, LARGE)
