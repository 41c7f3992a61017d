"""Laws that hold for every dialect, whatever its wire looks like."""

import asyncio
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
import pytest

from mlxd import errors
from mlxd.api.app import dialects_for
from mlxd.api.dialect import Caller, Frame, JsonObject, ParsedCall
from mlxd.api.wire.framing import NDJSON, SSE
from mlxd.config.settings import Settings
from mlxd.engine.scripted.engine import Gate, Pause, ScriptItem
from mlxd.events import BlockDelta, Event
from mlxd.messages import GenerateRequest, Message, Text
from tests.api.faces import FACES, OPENAI_CHAT, TOY, Face
from tests.api.support import FIXED, LIMIT, Front, bytes_of, front, settings_for
from tests.api.toy_ndjson import Toy, ToyRenderer
from tests.scripts import FAILING, SCRIPTS, STARTED, WHOLE, Playing, finished, text

LEAVES = [cls for cls in errors.subclasses(errors.MlxdError) if not errors.subclasses(cls)]
SAMPLES: dict[type, Any] = {str: "secret", int: 7, float: 2.5, list[str]: ["demo"]}
KEPT = SSE.keep_alive
every_face = pytest.mark.parametrize("face", FACES.values(), ids=FACES)
every_error = pytest.mark.parametrize("cls", LEAVES, ids=lambda cls: cls.__name__)


def sample(cls: type[errors.MlxdError]) -> errors.MlxdError:
    """An error of this class with some fact in each field."""
    facts: dict[str, Any] = {}
    for field in dataclasses.fields(cls):
        required = field.default is dataclasses.MISSING
        if required and isinstance(field.type, type | type(list[str])):
            facts[field.name] = SAMPLES[field.type]
        elif required:
            facts[field.name] = "value"
    return cls(**facts)


def served(face: Face, *script: ScriptItem, settings: Settings | None = None) -> Front:
    return front(*script, dialects=(face.dialect,), settings=settings)


PLAYING = Playing()
SERVER = front(play=PLAYING, dialects=[face.dialect for face in FACES.values()])


def playing(script: tuple[Event, ...]) -> Front:
    """A server of every dialect, shared by many tests, that now plays `script`."""
    PLAYING.script = script
    return SERVER


def test_every_dialect_has_a_face_here() -> None:
    assert {dialect.name for dialect in dialects_for(Settings())} <= FACES.keys()


@every_face
@pytest.mark.parametrize("name", WHOLE)
async def test_a_stream_amounts_to_the_whole_answer(face: Face, name: str) -> None:
    server = playing(WHOLE[name])
    whole = await server.post(face.body, face.path)
    stream = await server.post(face.body | face.live, face.path)
    frames = face.read(await bytes_of(stream))
    assert (whole.status_code, stream.status_code) == (200, 200)
    assert face.ends_well(frames)
    assert face.fold(frames) == await whole.get_json()


@every_face
@pytest.mark.parametrize("name", FAILING)
async def test_a_failure_is_an_error_when_whole_and_a_frame_when_streamed(
    face: Face, name: str
) -> None:
    server = playing(FAILING[name])
    whole = await server.post(face.body, face.path)
    assert whole.status_code >= 500
    assert face.is_error(await whole.get_json())
    stream = await server.post(face.body | face.live, face.path)
    assert stream.status_code == 200
    assert has_error(face, await bytes_of(stream))


def has_error(face: Face, data: bytes) -> bool:
    """Whether a stream ends in an error and, after it, as it should."""
    frames = face.read(data)
    assert face.ends_well(frames)
    return any(face.is_error(body) for body in json_objects(face, data))


def json_objects(face: Face, data: bytes) -> Iterator[dict[str, Any]]:
    for frame in face.read(data):
        if frame.data.startswith(b"{"):
            yield msgspec.json.decode(frame.data)


class Raising:
    """A script that fails with the error it was told to: at once, or in the middle."""

    def __init__(self) -> None:
        self.error: errors.MlxdError = errors.InternalError()
        self.late = False

    def __call__(self, request: GenerateRequest) -> Iterator[ScriptItem]:
        if self.late:
            yield STARTED
            yield from text(0, "One, ")
        raise self.error


@pytest.fixture(scope="module")
def raising() -> Raising:
    return Raising()


@pytest.fixture(scope="module")
def raising_servers(raising: Raising) -> dict[str, Front]:
    """A server a dialect, for they are many tests."""
    return {name: front(play=raising, dialects=(face.dialect,)) for name, face in FACES.items()}


@every_face
@every_error
async def test_every_error_before_the_first_byte_has_its_status_and_shape(
    face: Face,
    cls: type[errors.MlxdError],
    raising: Raising,
    raising_servers: dict[str, Front],
) -> None:
    server = raising_servers[face.dialect.name]
    raising.error, raising.late = sample(cls), False
    expected = face.dialect.error(sample(cls), Caller("req_1"))
    for live in ({}, face.live):
        response = await server.post(face.body | live, face.path)
        assert response.status_code == expected.status >= 400
        assert face.is_error(await response.get_json())
        assert server.engine.running == 0


@every_face
@every_error
async def test_every_error_after_the_first_byte_is_a_frame_and_an_end(
    face: Face,
    cls: type[errors.MlxdError],
    raising: Raising,
    raising_servers: dict[str, Front],
) -> None:
    raising.error, raising.late = sample(cls), True
    server = raising_servers[face.dialect.name]
    response = await server.post(face.body | face.live, face.path)
    assert response.status_code == 200
    assert has_error(face, await bytes_of(response))


@every_face
@pytest.mark.parametrize("key", ["", "wrong", "Wrong-key"])
async def test_a_wrong_key_is_a_401_in_the_dialects_shape(face: Face, key: str) -> None:
    server = served(face, *SCRIPTS["text"], settings=settings_for(api_keys=("right",)))
    response = await server.post(face.body, face.path, authorization=f"Bearer {key}")
    assert response.status_code == 401
    assert face.is_error(await response.get_json())
    assert not server.engine.requests
    right = await server.post(face.body, face.path, authorization="Bearer right")
    assert right.status_code == 200


@every_face
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "{path}", 405), ("DELETE", "{path}", 405), ("POST", "{path}/no/such/thing", 404)],
)
async def test_errors_of_the_framework_have_the_dialects_shape(
    face: Face, method: str, path: str, status: int
) -> None:
    response = await served(face).client.open(path.format(path=face.path), method=method)
    assert (response.status_code, response.content_type) == (status, "application/json")
    assert face.is_error(await response.get_json())


@every_face
@pytest.mark.parametrize(
    ("data", "status"), [(b"{", 400), (b"[]", 400), (b"", 400), (b"x" * 5000, 413)]
)
async def test_a_body_that_cannot_be_read_is_refused_in_the_dialects_shape(
    face: Face, data: bytes, status: int
) -> None:
    server = served(face, settings=settings_for(max_body=4096))
    response = await server.send(data, face.path)
    assert response.status_code == status
    assert face.is_error(await response.get_json())


@every_face
async def test_unknown_fields_are_ignored_and_named(face: Face) -> None:
    server = served(face, *SCRIPTS["text"])
    response = await server.post(face.body | {"colour": "blue", "null": None}, face.path)
    assert response.status_code == 200
    assert "colour" in response.headers["x-mlxd-ignored"].split(",")


@every_face
@pytest.mark.parametrize("live", [False, True], ids=["whole", "stream"])
async def test_a_client_that_leaves_frees_the_slot(face: Face, live: bool) -> None:
    gate = asyncio.Event()
    server = served(face, STARTED, *text(0, "One"), Gate(gate), *text(1, "two"))
    body = msgspec.json.encode(face.body | (face.live if live else {}))
    async with asyncio.timeout(LIMIT):
        connection = server.client.request(face.path, method="POST")
        async with connection as client:
            await client.send(body)
            await client.send_complete()
            await server.engine.reaches(lambda engine: engine.running == 1)
            if live:
                await client.receive()
            await client.disconnect()
            await server.engine.reaches(lambda engine: engine.running == 0)
    assert server.engine.cancelled == 1


@every_face
async def test_a_client_that_leaves_while_it_waits_for_a_slot_is_forgotten(face: Face) -> None:
    gate = asyncio.Event()

    def wait(request: GenerateRequest) -> Iterator[ScriptItem]:
        yield Gate(gate)

    server = front(play=wait, dialects=(face.dialect,))
    async with asyncio.timeout(LIMIT):
        async with server.client.request(face.path, method="POST") as client:
            await client.send(msgspec.json.encode(face.body | face.live))
            await client.send_complete()
            await server.engine.reaches(lambda engine: engine.running == 1)
            await client.disconnect()
            await server.engine.reaches(lambda engine: engine.running == 0)


@every_face
async def test_a_stream_longer_than_the_response_timeout_is_not_cut(face: Face) -> None:
    pieces = [item for index in range(4) for item in (*text(index, "word"), Pause(0.02))]
    server = served(face, STARTED, *pieces, finished())
    server.app.config["RESPONSE_TIMEOUT"] = 0.01
    response = await server.post(face.body | face.live, face.path)
    frames = face.read(await bytes_of(response))
    assert face.ends_well(frames)
    assert face.fold(frames) == await (await server.post(face.body, face.path)).get_json()


@every_face
async def test_a_silent_stream_is_kept_alive_in_prefill_and_while_decoding(face: Face) -> None:
    prefill, decode = asyncio.Event(), asyncio.Event()
    words = text(0, "One", "two")
    script = (STARTED, Gate(prefill), next(words), next(words), Gate(decode), *words)
    tuning = dataclasses.replace(FIXED, idle=0.01)
    server = front(*script, dialects=(face.dialect,), tuning=tuning)
    seen = b""
    async with asyncio.timeout(LIMIT):
        async with server.client.request(face.path, method="POST") as client:
            await client.send(msgspec.json.encode(face.body | face.live))
            await client.send_complete()
            # A framing without comments has the dialect's own sign of life for a silent block too.
            later = face.dialect.framing.keep_alive or face.alive
            for gate, alive in ((prefill, face.alive), (decode, later)):
                kept = seen.count(alive)
                while seen.count(alive) < kept + 2:
                    seen += await client.receive()
                gate.set()
            ends = (b"end", b"[DONE]", b"over", b'"done":true')
            while not any(end in seen for end in ends):
                seen += await client.receive()
            await client.disconnect()


@every_face
async def test_a_stream_that_is_not_silent_is_left_alone(face: Face) -> None:
    pieces = [item for index in range(10) for item in (*text(index, "word"), Pause(0.02))]
    tuning = dataclasses.replace(FIXED, idle=0.1)
    script = (STARTED, *pieces, finished())
    server = front(*script, dialects=(face.dialect,), tuning=tuning)
    data = await bytes_of(await server.post(face.body | face.live, face.path))
    # On a busy machine a pause may take long enough for one; silence taken for granted, for many.
    assert data.count(KEPT) < 20


class BrokenRenderer(ToyRenderer):
    """Fails once the answer has begun."""

    def frames(self, choice: int, event: Event) -> Iterable[Frame]:
        if isinstance(event, BlockDelta):
            raise ZeroDivisionError(event.text)
        return super().frames(choice, event)


class BrokenToy(Toy):
    """A dialect with bugs: in parsing, or in rendering."""

    def parse(self, body: JsonObject, caller: Caller) -> ParsedCall:
        call = super().parse(body, caller)
        if body["say"] == "break":
            raise ZeroDivisionError(body["say"])
        return dataclasses.replace(call, renderer=BrokenRenderer())


@pytest.mark.parametrize(("say", "live"), [("break", False), ("break", True), ("hi", True)])
async def test_a_bug_of_ours_is_told_in_the_log_and_hidden_from_the_caller(
    say: str, live: bool, caplog: pytest.LogCaptureFixture
) -> None:
    server = front(*SCRIPTS["text"], dialects=(BrokenToy(),))
    response = await server.post({"say": say, "live": live}, TOY.path)
    assert response.status_code == (500 if say == "break" else 200)
    data = await bytes_of(response)
    assert b"Zero" not in data
    assert b'"what":"internal"' in data
    assert "unexpected ZeroDivisionError" in caplog.text
    assert server.engine.running == 0


@every_face
async def test_the_engine_hears_the_same_whatever_the_dialect_left_out(face: Face) -> None:
    server = served(face, *SCRIPTS["text"], settings=settings_for(api_keys=("right",)))
    await server.post(face.body, face.path, x_api_key="right")
    (request,) = server.engine.requests
    assert (request.model, request.source.dialect) == ("demo", face.dialect.name)
    assert request.messages == (Message("user", (Text("Hello"),)),)
    assert len(request.source.key) == 12


def test_frames_are_written_as_the_standard_wants_them() -> None:
    frames = [Frame(b"1"), Frame(b"2", "two")]
    assert SSE.encode(frames) == b"data: 1\n\nevent: two\ndata: 2\n\n"
    assert NDJSON.encode(frames) == b"1\n2\n"


@every_face
async def test_no_line_of_a_stream_ends_where_only_some_clients_see_an_end(face: Face) -> None:
    odd = "a\x0bb\x0cc\x1cd\x85e\u2028f\u2029g\rh\ni"
    server = served(face, STARTED, *text(0, odd), finished())
    data = await bytes_of(await server.post(face.body | face.live, face.path))
    assert data.decode().splitlines() == data.decode().split("\n")[:-1]
    whole = await server.post(face.body, face.path)
    assert face.fold(face.read(data)) == await whole.get_json()


@every_face
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_envelope_follows_the_path_among_all_dialects(face: Face, method: str) -> None:
    server = front(dialects=[each.dialect for each in FACES.values()])
    for path in (face.path, f"{face.path}/nothing/here"):
        ask = server.client.get if method == "GET" else server.client.post
        response = await ask(path)
        assert response.status_code >= 400
        assert face.is_error(await response.get_json())


async def test_where_no_dialect_lives_the_first_one_answers() -> None:
    server = front(dialects=[TOY.dialect, OPENAI_CHAT.dialect])
    assert TOY.is_error(await (await server.get("/nowhere")).get_json())
    assert OPENAI_CHAT.is_error(await (await server.get("/chat/completions")).get_json())
