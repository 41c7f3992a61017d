"""HTTP without vendors: from bytes to calls, and from events to bytes."""
