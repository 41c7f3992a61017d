"""HTTP: the dialects and the one path from request to response."""
