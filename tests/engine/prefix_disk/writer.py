"""A process that writes prefixes until it is killed, and says what it has written."""

import sys
from itertools import count
from pathlib import Path

from tests.engine.prefix_disk.test_spill import Kept, tokens

run = Kept(Path(sys.argv[1]))
for talk in count():
    run.write(tokens(64, 100 * talk))
    sys.stdout.write(f"{talk}\n")
    sys.stdout.flush()
