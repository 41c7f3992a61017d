"""Settings, and what reads, explains and writes them."""
