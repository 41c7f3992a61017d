"""The log: one line a request, with counts and times, and nothing of what was said."""
