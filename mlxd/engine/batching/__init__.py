"""The rows that are decoded together, and their KV caches."""
