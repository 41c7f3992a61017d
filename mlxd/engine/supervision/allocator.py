"""How the C library takes memory from the system, and keeps what was freed."""

import ctypes
import sys
from collections.abc import Mapping

M_MMAP_THRESHOLD = -3
"""From glibc's malloc.h."""
LARGE = 256 * 1024
"""Bytes from which a block is mapped on its own, and goes back to the system when it is freed."""
TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
"""glibc's variable for its settings, and the one that asks for huge pages (since version 2.35)."""


def with_huge_pages(environment: Mapping[str, str]) -> dict[str, str]:
    """`environment` for a new process that shall have large blocks in huge pages, where there are.

    Every decode step reads all weights, and every prefill fills fresh memory: with pages of 4 KB
    the processor spends a good part of it on finding and making pages.
    """
    tunables = environment.get(TUNABLES, "")
    if sys.platform != "linux" or HUGE_PAGES in tunables:
        return dict(environment)
    return {**environment, TUNABLES: ":".join(filter(None, (tunables, f"{HUGE_PAGES}=1")))}


def return_freed_memory() -> None:
    """Keep large blocks out of the heap, where a later small one would hold on to their memory.

    glibc begins like this, but takes larger and larger blocks from the heap once some were freed: a
    few bodies of some megabytes would leave the server several hundred megabytes larger for good.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_THRESHOLD, LARGE)
