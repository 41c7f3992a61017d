"""Models on disk, and how they come there; no MLX."""
