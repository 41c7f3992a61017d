"""The engine as the server sees it: a process that is watched and replaced."""
