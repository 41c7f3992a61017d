"""Coding agents on this server: how each is started, and what it wants in its own configuration."""
