"""Readable transcripts of every script in every dialect; `--update-golden` writes them anew.

A `.sse` file is the stream as it goes over the wire, a `.json` file the status and body of the
whole answer. A change of either is a change of the API, and its diff is read as one.
"""

from pathlib import Path

import msgspec
import pytest

from tests.api.faces import FACES, Face
from tests.api.support import bytes_of, front
from tests.scripts import SCRIPTS, Playing

PLAYING = Playing()
SERVER = front(play=PLAYING)
GOLDEN = Path(__file__).parent / "golden"
shipped = [face for name, face in FACES.items() if name != "toy"]
every_face = pytest.mark.parametrize("face", shipped, ids=lambda face: face.dialect.name)
every_script = pytest.mark.parametrize("name", SCRIPTS)


def compare(path: Path, now: bytes, config: pytest.Config) -> None:
    """Hold `now` against the transcript, or make it the transcript."""
    if config.getoption("--update-golden"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(now)
    assert path.read_bytes().decode() == now.decode()


@every_face
@every_script
async def test_the_stream_is_as_written_down(
    face: Face, name: str, pytestconfig: pytest.Config
) -> None:
    PLAYING.script = SCRIPTS[name]
    response = await SERVER.post(face.body | face.live, face.path)
    transcript = GOLDEN / face.dialect.name / f"{name}.sse"
    compare(transcript, await bytes_of(response), pytestconfig)


@every_face
@every_script
async def test_the_whole_answer_is_as_written_down(
    face: Face, name: str, pytestconfig: pytest.Config
) -> None:
    PLAYING.script = SCRIPTS[name]
    response = await SERVER.post(face.body, face.path)
    record = {"status": response.status_code, "body": await response.get_json()}
    pretty = msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n"
    compare(GOLDEN / face.dialect.name / f"{name}.json", pretty, pytestconfig)


@every_face
def test_there_is_no_transcript_without_a_script(face: Face) -> None:
    found = {path.stem for path in (GOLDEN / face.dialect.name).iterdir()}
    assert found == set(SCRIPTS)
