"""Bugs of ours, kept apart from errors on purpose: logged, and hidden from the caller."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from mlxd.errors import InternalError, MlxdError

log = logging.getLogger(__name__)


@contextmanager
def bugs_hidden(request_id: str) -> Iterator[None]:
    """Raise `InternalError` in place of anything unexpected, which is logged."""
    try:
        yield
    except MlxdError:
        raise
    except Exception as error:
        raise logged(error, request_id) from error


def logged(error: Exception, request_id: str) -> InternalError:
    """Log `error`, and what the caller may know of it: nothing."""
    log.error("%s: unexpected %s", request_id, type(error).__name__, exc_info=error)
    return InternalError()
