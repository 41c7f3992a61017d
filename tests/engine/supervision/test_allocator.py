"""What the engine process is told about its memory."""

import sys

import pytest

from mlxd.engine.supervision.allocator import TUNABLES, with_huge_pages

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a setting of glibc's")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({}, "glibc.malloc.hugetlb=1"),
        ({TUNABLES: ""}, "glibc.malloc.hugetlb=1"),
        ({TUNABLES: "glibc.malloc.check=1"}, "glibc.malloc.check=1:glibc.malloc.hugetlb=1"),
        ({TUNABLES: "glibc.malloc.hugetlb=0"}, "glibc.malloc.hugetlb=0"),
    ],
)
def test_huge_pages_are_added_to_what_the_user_set(before: dict[str, str], after: str) -> None:
    assert with_huge_pages({"HOME": "/root", **before}) == {"HOME": "/root", TUNABLES: after}
