"""What commands print: objects for scripts, and how far something is that takes long."""
