"""Measures mlxd against what it is built on and what it replaces: `make bench`."""
