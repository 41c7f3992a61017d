"""How a vendor's API shows a class of errors: a row of its table."""

from typing import NamedTuple


class ErrorRow(NamedTuple):
    """`code` and `param` where the vendor has them; `retry` is for `retry-after`, in seconds."""

    status: int
    type: str
    code: str | None = None
    param: str | None = None
    retry: float | None = None
