"""`kill -9` of the server under load: what it acknowledged is there when it is back."""

from pathlib import Path

from soak.cycles import Plan, run


def test_kills_under_load_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    outcomes = list(run(tmp_path, Plan(cycles=4, longest=0.5, seed=7)))
    assert [outcome.lost for outcome in outcomes] == [()] * 5
    assert {outcome.integrity for outcome in outcomes} == {"ok"}
    assert outcomes[-1].acknowledged > 10
    assert max(outcome.start_seconds for outcome in outcomes) < 60
