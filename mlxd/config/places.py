"""Where the configuration file is looked for; light, as completing a command line needs it too."""

import os
from pathlib import Path

import platformdirs

FILE_NAME = "mlxd.toml"


def candidates() -> tuple[Path, ...]:
    """Where a file is looked for when none is named, in this order."""
    return Path(FILE_NAME), platformdirs.user_config_path("mlxd") / FILE_NAME


def find() -> Path | None:
    """The file that is read when none is named."""
    return next((path for path in candidates() if os.path.lexists(path)), None)
