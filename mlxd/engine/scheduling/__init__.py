"""Who is computed next: pure, without MLX, threads or a clock."""
