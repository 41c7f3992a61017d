"""What each key has left, on a clock that a test moves."""

import pytest

from mlxd.engine.protocol import KeyShare
from mlxd.engine.supervision.key_accounts import KeyAccounts
from mlxd.errors import RateLimited
from mlxd.status import RequestStatus


class Clock:
    """Seconds, as a test moves them."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def accounts(clock: Clock) -> KeyAccounts:
    keys = {"a1": KeyShare("laptop", 3.0, tokens_per_minute=600), "b2": KeyShare("phone")}
    return KeyAccounts(keys, clock)


def test_a_key_waits_until_what_it_took_too_much_is_regained(
    accounts: KeyAccounts, clock: Clock
) -> None:
    accounts.check("a1")
    accounts.spent("a1", 700)
    with pytest.raises(RateLimited) as caught:
        accounts.check("a1")
    assert caught.value.retry_after == pytest.approx(10.1)
    assert "600 tokens per minute" in str(caught.value)
    clock.now += caught.value.retry_after
    accounts.check("a1")


def test_a_key_saves_up_no_more_than_a_minute(accounts: KeyAccounts, clock: Clock) -> None:
    clock.now += 3600
    accounts.spent("a1", 600)
    with pytest.raises(RateLimited):
        accounts.check("a1")


def test_keys_without_a_limit_are_never_refused(accounts: KeyAccounts) -> None:
    for key in ("b2", "c3", ""):
        accounts.spent(key, 10**9)
        accounts.check(key)


def test_shares_are_those_of_about_the_last_minute(accounts: KeyAccounts, clock: Clock) -> None:
    accounts.spent("b2", 5000)
    clock.now += 600
    accounts.spent("a1", 300)
    accounts.spent("c3", 100)
    requests = [
        ("a1", RequestStatus(id="1", model="m", phase="decode")),
        ("a1", RequestStatus(id="2", model="m", phase="queued")),
    ]
    laptop, phone, other = accounts.status(requests)
    assert (laptop.name, laptop.weight, laptop.tokens) == ("laptop", 3.0, 300)
    assert (laptop.running, laptop.waiting) == (1, 1)
    assert (laptop.share, phone.share, other.share) == pytest.approx((0.75, 0, 0.25), abs=0.01)
    assert (phone.tokens, other.name) == (5000, "c3")


def test_without_keys_there_is_nothing_to_show(clock: Clock) -> None:
    accounts = KeyAccounts({}, clock)
    accounts.spent("", 100)
    assert accounts.status([]) == ()
