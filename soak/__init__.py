"""Kills the server under load, over and over, and looks for what it had promised: `make soak`."""
