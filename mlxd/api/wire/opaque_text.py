"""Text that travels through callers without being shown to them; no secret, only out of sight.

What is sealed begins with a mark that says who made it and in which form, so that the seals of
other servers, and of other versions, are known as such.
"""

from base64 import b64decode, b64encode

# Another form would get another mark: servers without it skip it, and misread nothing.
_MARK = b"mlxd"


def seal(text: str = "") -> str:
    """`text` as letters and digits that `unseal` understands."""
    # Without a text the mark alone: vendors' clients take an empty signature for a missing one.
    return b64encode(_MARK + (b":" + text.encode() if text else b"")).decode()


def unseal(sealed: str) -> str | None:
    """The text in a seal of ours, None for one of somebody else's."""
    # Clients keep histories of other vendors and send them anywhere, so any text may come.
    try:
        mark, _, text = b64decode(sealed, validate=True).partition(b":")
        return text.decode() if mark == _MARK else None
    except ValueError:
        return None
