"""The store against a dictionary: whatever is done, in whatever order, both say the same."""

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlxd.errors import NotStored
from mlxd.history import RUNNING, Item, ResponseState, StoredResponse
from mlxd.store.conversations import ConversationStore
from tests.store.support import INTERVAL, ME, OTHER, TTL, FakeClock, Kind, items, make, response

T = TypeVar("T")
PICK = st.integers(0, 1000)
ENDS = st.sampled_from(["completed", "incomplete", "failed", "cancelled"])
SPANS = st.sampled_from([1.0, 20.0, 55.0, 300.0, 990.0, 1500.0, 400_000.0])
JUMPS = st.sampled_from([3600.0, -3600.0, 3.2e8, -3.2e8, 59.0, -1.9e9, 4e9])


@dataclass
class Group:
    used: float


@dataclass
class Known:
    """A response as it must be; `base` is what it was built on."""

    put: StoredResponse
    base: tuple[Item, ...]
    group: Group

    @property
    def history(self) -> tuple[Item, ...]:
        return (*self.base, *self.put.input, *self.put.output)


@dataclass
class Talk:
    owner: str
    group: Group
    metadata: bytes = b"{}"
    items: list[Item] = field(default_factory=list)


class Machine(RuleBasedStateMachine):
    """Creates, reads, deletes, chains, forks, expires, restarts, and sets the clock."""

    kind: Kind = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.clock = FakeClock()
        self.elapsed = 0.0
        self.number = 0
        self.responses: dict[str, Known] = {}
        self.talks: dict[str, Talk] = {}
        self.deleted: list[StoredResponse] = []
        self.runner = asyncio.Runner()
        self.store = self.reopened()

    def reopened(self) -> ConversationStore:
        store = make(self.folder, self.kind, clock=self.clock, sweeping=False)
        self.run(store.open())
        # On a busy machine `open` leaves checking the file to the background; this waits for it.
        self.run(store.find_items(ME, ()))
        return store

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.runner.close()
        shutil.rmtree(self.folder)

    def fresh(self, kind: str) -> str:
        self.number += 1
        return f"{kind}_{self.number}"

    def known(self, pick: int) -> Known | None:
        there = list(self.responses.values())
        return there[pick % len(there)] if there else None

    def talk(self, pick: int) -> tuple[str, Talk] | None:
        there = list(self.talks.items())
        return there[pick % len(there)] if there else None

    def use(self, group: Group) -> None:
        group.used = self.elapsed

    @rule(pick=PICK, built_on=st.sampled_from(["nothing", "response", "talk"]), over=st.booleans())
    def put(self, pick: int, built_on: str, over: bool) -> None:
        before, talk = self.known(pick), self.talk(pick)
        name, owner = self.fresh("resp"), (ME, OTHER)[pick % 2]
        base: tuple[Item, ...] = ()
        group = Group(self.elapsed)
        origin: dict[str, str] = {}
        if built_on == "response" and before:
            base, group, owner = before.history, before.group, before.put.owner
            origin = {"previous": before.put.id}
        elif built_on == "talk" and talk:
            base, group, owner = tuple(talk[1].items), talk[1].group, talk[1].owner
            origin = {"conversation": talk[0]}
        said = items(f"{name}_out") if over else ()
        state: ResponseState = "completed" if over else "in_progress"
        put = response(name, state, owner=owner, input=items(f"{name}_in"), output=said, **origin)
        self.run(self.store.put_response(put))
        self.use(group)
        self.responses[name] = Known(put, base, group)
        if over:
            self.append(put)

    def append(self, put: StoredResponse) -> None:
        if put.conversation in self.talks:
            self.talks[put.conversation].items += (*put.input, *put.output)

    @rule(pick=PICK, state=ENDS)
    def end(self, pick: int, state: ResponseState) -> None:
        if not (known := self.known(pick)):
            return
        old = known.put
        put = response(
            old.id,
            state,
            owner=old.owner,
            input=old.input,
            output=items(f"{old.id}_out", f"{old.id}_more"),
            previous=old.previous,
            conversation=old.conversation,
            frames=(b"1",),
        )
        self.run(self.store.put_response(put))
        if old.state in RUNNING:
            self.use(known.group)
            known.put = put
            self.append(put)

    @precondition(lambda self: self.deleted)
    @rule(pick=PICK)
    def put_after_delete(self, pick: int) -> None:
        self.run(self.store.put_response(self.deleted[pick % len(self.deleted)]))

    @rule(pick=PICK)
    def delete(self, pick: int) -> None:
        if known := self.known(pick):
            self.run(self.store.delete_response(known.put.owner, known.put.id))
            self.use(known.group)
            del self.responses[known.put.id]
            self.deleted.append(known.put)

    @rule(pick=PICK)
    def read(self, pick: int) -> None:
        if known := self.known(pick):
            self.compare(known)

    @rule(pick=PICK)
    def read_as_another(self, pick: int) -> None:
        if known := self.known(pick):
            another = OTHER if known.put.owner == ME else ME
            assert not self.found(self.store.response(another, known.put.id))

    @rule(pick=PICK, count=st.integers(0, 3))
    def create_talk(self, pick: int, count: int) -> None:
        owner, begun = (ME, OTHER)[pick % 2], items(*(self.fresh("item") for _ in range(count)))
        made = self.run(self.store.create_conversation(owner, metadata=b"{}", items=begun))
        self.talks[made.id] = Talk(owner, Group(self.elapsed), items=list(begun))

    @rule(pick=PICK)
    def change_talk(self, pick: int) -> None:
        if found := self.talk(pick):
            name, talk = found
            talk.metadata = b'{"n":"%d"}' % pick
            self.run(self.store.update_conversation(talk.owner, name, metadata=talk.metadata))
            talk.items += (more := items(self.fresh("item")))
            self.run(self.store.add_items(talk.owner, name, more))
            self.use(talk.group)

    @rule(pick=PICK)
    def delete_item(self, pick: int) -> None:
        found = self.talk(pick)
        if found and found[1].items:
            name, talk = found
            gone = talk.items[pick % len(talk.items)]
            self.run(self.store.delete_item(talk.owner, name, gone.id))
            talk.items = [each for each in talk.items if each != gone]
            self.use(talk.group)

    @rule(pick=PICK)
    def delete_talk(self, pick: int) -> None:
        if found := self.talk(pick):
            name, talk = found
            self.run(self.store.delete_conversation(talk.owner, name))
            self.use(talk.group)
            del self.talks[name]

    @rule(seconds=SPANS)
    def let_time_pass(self, seconds: float) -> None:
        self.clock.pass_time(seconds)
        self.elapsed += seconds

    @rule(by=JUMPS)
    def set_the_clock(self, by: float) -> None:
        self.clock.set_wall(by)

    @precondition(lambda self: self.kind == "sqlite")
    @rule(seconds=SPANS, boot=st.booleans(), by=JUMPS)
    def restart(self, seconds: float, boot: bool, by: float) -> None:
        """A date that is set while the server is down is only noticed by a machine that runs."""
        self.run(self.store.close())
        if boot:
            self.clock.reboot(seconds)
        else:
            self.clock.pass_time(seconds)
            self.clock.set_wall(by)
        self.elapsed += seconds
        self.store = self.reopened()
        for known in self.responses.values():
            if known.put.state in RUNNING:
                known.put = msgspec.structs.replace(known.put, state="failed")
                self.use(known.group)

    @rule()
    def sweep(self) -> None:
        """The first sweep after the clock was set waits."""
        self.run(self.store.sweep())
        self.run(self.store.sweep())
        running = [k.group for k in self.responses.values() if k.put.state in RUNNING]
        for group in self.threads():
            age = self.elapsed - group.used
            if any(group is each for each in running) or age < TTL:
                continue
            if age > TTL + 2 * INTERVAL or not self.is_there(group):
                self.forget(group)

    def threads(self) -> list[Group]:
        every = [k.group for k in self.responses.values()]
        every += [talk.group for talk in self.talks.values()]
        return list({id(group): group for group in every}.values())

    def is_there(self, group: Group) -> bool:
        """Ask, which is a use; for those in the time in which both is right."""
        for name, known in self.responses.items():
            if known.group is group:
                return self.found(self.store.response(known.put.owner, name), group)
        for name, talk in self.talks.items():
            if talk.group is group:
                return self.found(self.store.conversation(talk.owner, name), group)
        raise AssertionError

    def found(self, question: Coroutine[Any, Any, object], group: Group | None = None) -> bool:
        try:
            self.run(question)
        except NotStored:
            return False
        if group:
            self.use(group)
        return True

    def forget(self, group: Group) -> None:
        gone = [k.put for k in self.responses.values() if k.group is group]
        self.responses = {n: k for n, k in self.responses.items() if k.group is not group}
        self.talks = {n: talk for n, talk in self.talks.items() if talk.group is not group}
        for put in gone:
            assert not self.found(self.store.response(put.owner, put.id))
            assert not self.run(self.store.find_items(put.owner, [each.id for each in put.input]))

    def compare(self, known: Known) -> None:
        put = known.put
        stored = self.run(self.store.response(put.owner, put.id))
        assert (stored.state, stored.input, stored.output) == (put.state, put.input, put.output)
        past = self.run(self.store.past(put.owner, previous=put.id))
        assert past == known.history
        assert self.run(self.store.context(put.owner, put.id)) == (*known.base, *put.input)
        self.use(known.group)

    @invariant()
    def counts_agree(self) -> None:
        status = self.store.status()
        there = (len(self.responses), len(self.talks))
        assert (status.responses, status.conversations) == there
        assert status.problem == ""

    @precondition(lambda self: self.number % 5 == 4)
    @invariant()
    def everything_agrees(self) -> None:
        for known in self.responses.values():
            self.compare(known)
        for name, talk in self.talks.items():
            assert self.run(self.store.items(talk.owner, name)) == tuple(talk.items)
            assert self.run(self.store.conversation(talk.owner, name)).metadata == talk.metadata
            self.use(talk.group)


class MemoryMachine(Machine):
    kind = "memory"


USUAL = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestFile = Machine.TestCase
TestFile.settings = USUAL
TestMemory = MemoryMachine.TestCase
TestMemory.settings = USUAL
