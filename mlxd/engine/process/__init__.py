"""The engine process: its threads, the models it holds, its BLAS."""
