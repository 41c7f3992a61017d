"""What `make` does before mlxd is there: look at this machine, install, put it on the PATH.

Only Python's own library is used: `check [PORT]`, `run WORDS COMMAND…`, `backend NAME`, `install`,
`uninstall`.
"""

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import threading
import time
import tomllib
from importlib.metadata import distributions, version
from pathlib import Path

OLDEST, NEWEST = (3, 11), (3, 14)
NEEDED = 1_500_000_000
"""Bytes that mlxd, its packages and the demo model take while they are installed."""
PORT = 8484
EVERY = 1.0
"""Seconds between two signs of life."""
HERE = Path.cwd()
OWN = HERE / ".venv" / "bin" / "mlxd"
USUAL = Path.home() / ".local" / "bin" / "mlxd"
BACKENDS = {"cpu": "mlx-cpu", "cuda12": "mlx-cuda-12", "cuda13": "mlx-cuda-13"}
"""The packages with which MLX computes on Linux. They own one file, so there may be one of them."""
MANAGED = ("uv/tools/mlxd/bin/mlxd", "pipx/venvs/mlxd/bin/mlxd")


def unfit_machine() -> str:
    """Why mlxd can't run here, in one line; empty if it can."""
    system, machine = platform.system(), platform.machine()
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        return f"mlxd needs Python 3.11 to 3.14; {sys.executable} is {platform.python_version()}."
    if sys.maxsize < 2**32:
        return "mlxd needs a 64-bit Python."
    if system == "Darwin":
        if machine != "arm64":
            return "On a Mac, MLX needs Apple silicon and a Python for it; this one is for Intel."
        version = platform.mac_ver()[0]
        if int(version.split(".")[0] or 0) < 14:
            return f"MLX needs macOS 14 or newer; this is {version}."
        return ""
    if system != "Linux":
        return "mlxd runs on macOS and Linux; on Windows, inside WSL2."
    libc, version = platform.libc_ver()
    if libc != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        return f"MLX needs glibc 2.35 or newer; here is {libc or 'another libc'} {version}.".strip()
    return ""


def unfit_port(named: str) -> str:
    """Why the server could not listen; empty if it could."""
    port = int(named) if named.isdigit() else _configured_port()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError as error:
            reason = f"can't be used ({error.strerror}); another: make serve PORT={port + 1}"
            return f"mlxd: port {port} {reason}"
    return ""


def _configured_port() -> int:
    try:
        if named := os.environ.get("MLXD_SERVER__PORT"):
            return int(named)
        return int(tomllib.loads(Path("mlxd.toml").read_text("utf-8"))["server"]["port"])
    except (OSError, ValueError, KeyError, TypeError):
        # What is wrong with a configuration is said by mlxd itself.
        return PORT


def unfit_disk() -> str:
    """Why there is no room for an installation; empty if there is, or if it is done."""
    free = shutil.disk_usage(HERE).free
    if OWN.exists() or free >= NEEDED:
        return ""
    return f"mlxd needs {NEEDED / 1e9:.1f} GB of disk here; there are {free / 1e9:.1f} GB."


def check(port: str | None) -> int:
    """Look at everything that would end in vain after minutes of installing."""
    wrong = unfit_machine() or (unfit_port(port) if port is not None else "") or unfit_disk()
    if wrong:
        sys.stderr.write(f"{wrong}\n")
    return 3 if wrong else 0


def run(words: str, command: list[str]) -> int:
    """Run a command that takes long: a line that shows it goes on, all it said if it fails."""
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    said: list[str] = []
    assert process.stdout is not None
    reader = threading.Thread(target=said.extend, args=(process.stdout,), daemon=True)
    reader.start()
    begun = time.monotonic()
    while reader.is_alive():
        _show(words, time.monotonic() - begun, said[-1] if said else "")
        reader.join(EVERY)
    code = process.wait()
    sys.stderr.write("\n" if sys.stderr.isatty() else "")
    if code:
        sys.stderr.write("".join(said[-30:]))
    return code


def _show(words: str, seconds: float, last: str) -> None:
    # pip names what it works on at the beginning of a line.
    found = re.match(r"\s*(Collecting|Downloading|Installing|Building)\b(.*)", last)
    what = f"  {found[1].lower()}{found[2].split(' (from')[0]}" if found else ""
    line = f"{words}, {seconds:.0f} s{what}"
    width = shutil.get_terminal_size((100, 0)).columns - 1
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{line[:width]}\x1b[K")
    elif round(seconds) % 2 == 0:
        sys.stderr.write(f"{line[:width]}\n")
    sys.stderr.flush()


def backend(name: str) -> int:
    """Have MLX compute with this backend and no other; nothing is done where it does already."""
    if name not in BACKENDS:
        sys.stderr.write(f"BACKEND is one of {', '.join(BACKENDS)}, not {name}.\n")
        return 2
    if platform.system() != "Linux":
        sys.stderr.write("BACKEND is for Linux; on a Mac, MLX computes with Metal.\n")
        return 2
    if _installed_backends() == [BACKENDS[name]]:
        return 0
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    remove = [*pip, "uninstall", "--yes", *BACKENDS.values()]
    if code := run("taking out the other backends", remove):
        return code
    # One of the same version, whose parts fit together.
    wanted = f"{BACKENDS[name]}=={version('mlx')}"
    return run(f"installing {wanted}", [*pip, "install", wanted])


def _installed_backends() -> list[str]:
    found = {each.metadata["Name"].lower().replace("_", "-") for each in distributions()}
    return [package for package in BACKENDS.values() if package in found]


def install() -> int:
    """Put `mlxd` on the PATH, with the tool that is here for that; never over another program."""
    if _foreign(USUAL):
        sys.stderr.write(f"{USUAL} is another program; move it away first.\n")
        return 1
    if uv := shutil.which("uv"):
        code = run("installing with uv", [uv, "tool", "install", "--force", "--editable", "."])
        advice = "uv tool update-shell"
    elif pipx := shutil.which("pipx"):
        code = run("installing with pipx", [pipx, "install", "--force", "--editable", "."])
        advice = "pipx ensurepath"
    else:
        USUAL.parent.mkdir(parents=True, exist_ok=True)
        USUAL.unlink(missing_ok=True)
        USUAL.symlink_to(OWN)
        code, advice = 0, f'export PATH="{USUAL.parent}:$PATH"   (in your shell\'s own file)'
    if code == 0:
        here = shutil.which("mlxd")
        done = f"Installed: {here}" if here else f"Installed, but not on your PATH yet: {advice}"
        sys.stdout.write(f"{done}\n")
    return code


def uninstall() -> int:
    """Take away what `install` has put there, and nothing else."""
    if USUAL.is_symlink() and Path(os.readlink(USUAL)) == OWN:
        USUAL.unlink()
        return 0
    for tool, words in (("uv", ("tool", "uninstall", "mlxd")), ("pipx", ("uninstall", "mlxd"))):
        if _managed_by(tool) and (found := shutil.which(tool)):
            return subprocess.run([found, *words], check=False).returncode
    sys.stdout.write("Nothing of mlxd is on the PATH by `make install`.\n")
    return 0


def _foreign(path: Path) -> bool:
    """Whether something is there that `install` has not made."""
    if not os.path.lexists(path):
        return False
    ours = path.is_symlink() and Path(os.readlink(path)) == OWN
    return not (ours or _managed_by("uv") or _managed_by("pipx"))


def _managed_by(tool: str) -> bool:
    target = os.path.realpath(USUAL)
    return USUAL.is_symlink() and any(
        target.endswith(place) for place in MANAGED if place.startswith(tool)
    )


def main(arguments: list[str]) -> int:
    """Do what the first argument says."""
    match arguments:
        case ["check", *port]:
            return check(port[0] if port else None)
        case ["run", words, *command] if command:
            return run(words, command)
        case ["backend", name]:
            return backend(name)
        case ["install"]:
            return install()
        case ["uninstall"]:
            return uninstall()
    sys.stderr.write(f"{__doc__}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
