"""What a supervisor tells its watcher, and what it does when it is told to from outside."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlxd.errors import Cancelled, EngineCrashed, EngineStopped, revive
from mlxd.events import Failed, Finished
from mlxd.messages import GenerateRequest
from mlxd.status import RequestStatus
from tests.engine.supervision.support import Lab, say, until_ready
from tests.engine.support import events_of, until

pytestmark = pytest.mark.process

REASON = "restarted by an administrator"


@dataclass
class Watching:
    """A watcher that writes down what it hears."""

    wants_text = False
    phases: list[tuple[str, str]] = field(default_factory=list)
    ends: list[tuple[str, Finished | Failed | None]] = field(default_factory=list)
    decoded: int = 0
    changes: int = 0

    def computed(self, prefilled: int, decoded: int) -> None:
        assert prefilled >= 0
        self.decoded += decoded

    def moved(self, request: GenerateRequest, status: RequestStatus) -> None:
        self.phases.append((status.id, status.phase))

    def ended(
        self, request: GenerateRequest, status: RequestStatus, end: Finished | Failed | None
    ) -> None:
        self.ends.append((status.id, end))

    def wrote(self, request: GenerateRequest, text: str) -> None:
        raise AssertionError("texts are not wanted")

    def changed(self) -> None:
        self.changes += 1


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


async def test_a_watcher_hears_the_phases_and_the_end_of_each_request(lab: Lab) -> None:
    supervisor, watching = lab.make(), Watching()
    supervisor.watch(watching)
    async with lab.running(supervisor):
        request = say("hello")
        async with supervisor.generate(request) as generation:
            events = [event async for batch in generation for event in batch]
    phases = [phase for _, phase in watching.phases]
    assert phases[0] == "queued"
    assert phases[-1] == "decode"
    ((name, end),) = watching.ends
    assert (name, end) == (request.id, events[-1])
    assert isinstance(end, Finished)
    assert watching.decoded == end.usage.completion
    assert watching.changes > 1


async def test_a_caller_that_leaves_is_an_end_too(lab: Lab) -> None:
    supervisor, watching = lab.make(), Watching()
    supervisor.watch(watching)
    async with lab.running(supervisor), supervisor.generate(say("pause")):
        pass
    assert [end for _, end in watching.ends] == [None]


async def test_a_request_is_cancelled_by_its_id(lab: Lab) -> None:
    supervisor = lab.make()
    async with lab.running(supervisor):
        request = say("pause")
        async with supervisor.generate(request) as generation:
            assert not supervisor.cancel("another")
            assert supervisor.cancel(request.id)
            events = [event async for batch in generation for event in batch]
            assert isinstance(end := events[-1], Failed)
            assert isinstance(revive(end.error), Cancelled)
            assert supervisor.status().requests == ()


async def test_a_restart_replaces_the_process_at_once_and_counts_as_no_failure(lab: Lab) -> None:
    supervisor = lab.make()
    async with lab.running(supervisor):
        await until_ready(supervisor)
        for turn in range(1, 7):
            before = supervisor.status().pid
            async with supervisor.generate(say("pause")) as generation:
                supervisor.restart(REASON)
                events = [event async for batch in generation for event in batch]
                assert isinstance(end := events[-1], Failed)
                assert isinstance(error := revive(end.error), EngineCrashed)
                assert error.reason == REASON
            await until(lambda: supervisor.status().state == "ready")
            status = supervisor.status()
            assert status.pid != before
            assert (status.restarts, len(status.last_restarts)) == (turn, turn)
        assert {loss.reason for loss in status.last_restarts} == {REASON}
        assert isinstance((await events_of(supervisor, say("again")))[-1], Finished)


async def test_an_ending_server_restarts_nothing(lab: Lab) -> None:
    supervisor = lab.make()
    async with lab.running(supervisor):
        await until_ready(supervisor)
    with pytest.raises(EngineStopped):
        supervisor.restart(REASON)
