"""Files with what can be found out again."""

import os
import tempfile
from pathlib import Path

from platformdirs import user_cache_path


def kept_folder() -> Path:
    """Where such files are."""
    return user_cache_path("mlxd")


def keep(file: Path, content: bytes) -> None:
    """Put `content` into the file as a whole, whoever reads it or writes it meanwhile."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as written:
        written.write(content)
    os.replace(written.name, file)
