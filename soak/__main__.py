"""The command line: how many cycles, and what came of them."""

import argparse
import shutil
import sys
import tempfile
import time
from pathlib import Path

from soak.cycles import Outcome, Plan, run


def main() -> int:
    plan, folder = parse_arguments()
    started, bad, outcomes = time.perf_counter(), 0, []
    for number, outcome in enumerate(run(folder, plan), 1):
        outcomes.append(outcome)
        bad += tell(number, outcome)
        if number % 10 == 0:
            print(f"{number:>4} cycles, {outcome.acknowledged} acknowledged, {bad} bad")
    minutes = (time.perf_counter() - started) / 60
    slowest = max(outcome.start_seconds for outcome in outcomes)
    print(
        f"{plan.cycles} kills in {minutes:.1f} minutes: {outcomes[-1].acknowledged} acknowledged, "
        f"{sum(len(outcome.lost) for outcome in outcomes)} lost, slowest start {slowest:.1f} s"
    )
    if bad:
        print(f"The store and the server's log are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


def parse_arguments() -> tuple[Plan, Path]:
    usual = Plan()
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--cycles", type=int, default=usual.cycles)
    parser.add_argument("--clients", type=int, default=usual.clients)
    parser.add_argument("--longest", type=float, default=usual.longest, help="seconds of load")
    parser.add_argument("--seed", type=int, default=usual.seed)
    parser.add_argument("--folder", type=Path, help="an empty one, if not a temporary one")
    told = parser.parse_args()
    plan = Plan(told.cycles, told.clients, longest=told.longest, seed=told.seed)
    return plan, told.folder or Path(tempfile.mkdtemp(prefix="mlxd-soak-"))


def tell(number: int, outcome: Outcome) -> bool:
    """Say what is wrong with a cycle; whether anything is."""
    for loss in outcome.lost:
        print(f"cycle {number}: lost {loss}")
    if outcome.integrity != "ok":
        print(f"cycle {number}: {outcome.integrity}")
    return bool(outcome.lost) or outcome.integrity != "ok"


if __name__ == "__main__":
    sys.exit(main())
