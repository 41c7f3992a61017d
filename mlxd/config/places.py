"""Where the configuration file is looked for; light, as completing a command line needs it too."""

import os
from collections.abc import Sequence
from pathlib import Path

import platformdirs

FILE_NAME = "mlxd.toml"


def candidates() -> tuple[Path, ...]:
    """Where a file is looked for when none is named, in this order."""
    return Path(FILE_NAME), own_file()


def own_file() -> Path:
    """The file in the user's configuration folder: the one for a service, which has no folder."""
    return platformdirs.user_config_path("mlxd") / FILE_NAME


def find(places: Sequence[Path] | None = None) -> Path | None:
    """The file that is read when none is named."""
    looked_at = candidates() if places is None else places
    return next((path for path in looked_at if os.path.lexists(path)), None)
