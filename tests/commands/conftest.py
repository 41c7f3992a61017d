"""Every test here runs in empty surroundings."""

from pathlib import Path

import pytest

from tests.environment import Shell, clean


@pytest.fixture(autouse=True)
def _clean_surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clean(tmp_path, monkeypatch)


@pytest.fixture
def mlxd(capsys: pytest.CaptureFixture[str]) -> Shell:
    return Shell(capsys)
