"""What is remembered between requests, in one SQLite file."""
