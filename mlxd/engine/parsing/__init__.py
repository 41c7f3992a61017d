"""From tokens to well-formed events: pure, on both sides of the socket."""
