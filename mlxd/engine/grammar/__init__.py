"""What an answer may be, and which tokens may come next; no MLX."""
