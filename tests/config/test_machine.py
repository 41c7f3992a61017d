"""What the machine says of itself."""

import os

from mlxd.config.machine import memory_bytes, resident_bytes


def test_memory_is_known_whichever_of_a_containers_limits_there_are() -> None:
    # No machine has the files of both versions of control groups, and some have none.
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < resident_bytes() < memory_bytes() <= physical
