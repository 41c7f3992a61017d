"""`python -m mlxd` is the `mlxd` command."""

import sys

from mlxd.cli import main

sys.exit(main())
