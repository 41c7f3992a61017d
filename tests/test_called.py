"""How the program says that it is called: by what works where its user is."""

import os
import subprocess
import sys
from pathlib import Path

ASK = "import sys; sys.argv[0] = sys.argv[1]; import mlxd; print(mlxd.called())"


def called(started: Path, *, path: Path, here: Path) -> str:
    """What a program says that was started as `started` in the folder `here`."""
    root = Path(__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", ASK, str(started)],
        capture_output=True,
        text=True,
        check=True,
        cwd=here,
        env={**os.environ, "PATH": str(path), "PYTHONPATH": str(root)},
    )
    return done.stdout.strip()


def program(path: Path) -> Path:
    path.parent.mkdir(parents=True)
    path.touch(mode=0o755)
    return path


def test_a_command_is_shown_as_this_shell_finds_it(tmp_path: Path) -> None:
    own = program(tmp_path / "checkout" / ".venv" / "bin" / "mlxd")
    other = program(tmp_path / "other" / "mlxd")
    (linked := tmp_path / "linked").mkdir()
    (linked / "mlxd").symlink_to(own)
    checkout, bare = own.parents[2], tmp_path / "empty"
    assert called(own, path=own.parent, here=checkout) == "mlxd"
    assert called(own, path=linked, here=checkout) == "mlxd"
    assert called(own, path=bare, here=checkout) == ".venv/bin/mlxd"
    assert called(own, path=other.parent, here=tmp_path) == "checkout/.venv/bin/mlxd"
    assert called(own, path=bare, here=other.parent) == str(own)
    assert called(tmp_path / "__main__.py", path=bare, here=tmp_path).endswith("/mlxd")
