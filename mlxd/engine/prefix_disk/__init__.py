"""KV prefixes on the disk: files, what lies there, and the thread that reads and writes. No MLX."""
