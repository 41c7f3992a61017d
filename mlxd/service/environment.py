"""What of a shell's environment a service needs, as it is started without one.

Keys are never copied: a unit is a file that gets backed up, synchronised and shown around.
"""

import re
from collections.abc import Collection, Mapping
from typing import NamedTuple

# With other XDG folders than the shell, its commands would not find the service.
COPIED = re.compile(
    r"(?:HF|MLXD)_.+|XDG_(?:CONFIG|DATA|STATE|CACHE)_HOME|(?:HTTPS?|ALL|NO)_PROXY", re.IGNORECASE
)
FOR_CLIENTS = ("MLXD_URL", "MLXD_DEBUG")
SECRET_NAME = re.compile(
    r"(?:.*_)?(?:TOKEN|API_?KEYS?|KEYS?|SECRETS?|PASSWORDS?|CREDENTIALS?)", re.IGNORECASE
)
SECRET_VALUE = re.compile(r"://[^/\s]*@|api_keys|[\"']?token[\"']?\s*[:=]", re.IGNORECASE)
"""A name with a password in an address, or a table of settings that has keys."""


class Copied(NamedTuple):
    """The variables of the service, and the names of those that it should have and can't."""

    variables: dict[str, str]
    left_out: tuple[str, ...]


def copied(environment: Mapping[str, str], secrets: Collection[str] = ()) -> Copied:
    """What a service gets of `environment`; nothing that holds one of the `secrets`."""
    found = {
        name: value
        for name, value in sorted(environment.items())
        if value and COPIED.fullmatch(name) and name.upper() not in FOR_CLIENTS
    }
    left_out = tuple(name for name, value in found.items() if _is_secret(name, value, secrets))
    return Copied({name: found[name] for name in found if name not in left_out}, left_out)


def _is_secret(name: str, value: str, secrets: Collection[str]) -> bool:
    """Whether a variable must not stand in a unit, or can't."""
    return (
        SECRET_NAME.fullmatch(name) is not None
        or SECRET_VALUE.search(value) is not None
        or any(secret in value for secret in secrets if secret)
        or not value.isprintable()
    )
