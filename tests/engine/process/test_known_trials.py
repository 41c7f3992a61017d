"""What rows may do is tried once for the same files."""

import dataclasses
import os
from pathlib import Path

import pytest

from mlxd.engine.batching.row_trial import RowAbility
from mlxd.engine.models.loading import LoadedModel, load
from mlxd.engine.process.known_trials import MAX_FILES, KnownTrials
from mlxd.engine.protocol import ModelSpec
from tests.engine.batching.test_row_trial import FailsWithTwo, as_kind
from tests.tiny_model import make_tiny_model

pytestmark = pytest.mark.mlx


class EachAnew:
    """What every process finds out that starts with the same folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ability(self, loaded: LoadedModel) -> tuple[RowAbility, bool]:
        return KnownTrials(self._folder, worth=0).ability(loaded)


@pytest.fixture
def tiny(tmp_path: Path) -> LoadedModel:
    return load(ModelSpec(id="tiny", source=str(make_tiny_model(tmp_path / "tiny"))))


@pytest.fixture
def trials(tmp_path: Path) -> EachAnew:
    return EachAnew(tmp_path / "trials")


def test_the_same_files_are_tried_once(trials: EachAnew, tiny: LoadedModel) -> None:
    assert trials.ability(tiny) == (RowAbility(), False)
    assert trials.ability(tiny) == (RowAbility(), True)
    config = Path(tiny.spec.source) / "config.json"
    os.utime(config, ns=(1, 1))
    assert trials.ability(tiny) == (RowAbility(), False)
    assert trials.ability(tiny) == (RowAbility(), True)


def test_another_data_type_is_tried_anew(trials: EachAnew, tiny: LoadedModel) -> None:
    trials.ability(tiny)
    half = ModelSpec(id="half", source=tiny.spec.source, dtype="float16")
    assert not trials.ability(dataclasses.replace(tiny, spec=half))[1]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\x00", b'{"key": "another", "ability": {}}', b'{"key": 1}', b"[]"],
)
def test_a_file_that_is_damaged_or_of_another_model_is_no_result(
    content: bytes, trials: EachAnew, tiny: LoadedModel, tmp_path: Path
) -> None:
    trials.ability(tiny)
    (file,) = (tmp_path / "trials").iterdir()
    file.write_bytes(content)
    assert trials.ability(tiny) == (RowAbility(), False)
    assert trials.ability(tiny) == (RowAbility(), True)


def test_what_raised_is_tried_at_every_load(trials: EachAnew, tiny: LoadedModel) -> None:
    for _ in range(2):
        ability, known = trials.ability(as_kind(tiny, FailsWithTwo))
        assert (ability.together, known) == (False, False)


def test_a_quick_trial_is_worth_no_file(tiny: LoadedModel, tmp_path: Path) -> None:
    trials = KnownTrials(tmp_path / "trials", worth=3600)
    assert trials.ability(tiny) == (RowAbility(), False)
    assert not (tmp_path / "trials").exists()
    # The process itself knows it all the same, until the model changes.
    assert trials.ability(tiny) == (RowAbility(), True)
    os.utime(Path(tiny.spec.source) / "config.json", ns=(1, 1))
    assert trials.ability(tiny) == (RowAbility(), False)


def test_a_folder_that_can_not_be_written_costs_only_the_trial(
    tiny: LoadedModel, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    trials = EachAnew(tmp_path / "file" / "trials")
    for _ in range(2):
        assert trials.ability(tiny) == (RowAbility(), False)


def test_the_oldest_results_leave(trials: EachAnew, tiny: LoadedModel, tmp_path: Path) -> None:
    folder = tmp_path / "trials"
    folder.mkdir()
    for number in range(MAX_FILES + 5):
        (folder / f"{number}.json").write_text("")
        os.utime(folder / f"{number}.json", (number, number))
    trials.ability(tiny)
    left = {path.name for path in folder.iterdir()}
    assert len(left) == MAX_FILES
    assert not left & {f"{number}.json" for number in range(6)}
    assert trials.ability(tiny)[1]
