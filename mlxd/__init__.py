"""mlxd: the local inference server people trust with their agents."""

__version__ = "0.1.0"
