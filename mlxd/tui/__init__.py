"""The terminal dashboard; a client like any other, over HTTP."""
