"""The wire format of Responses, both ways: no I/O, no HTTP."""
