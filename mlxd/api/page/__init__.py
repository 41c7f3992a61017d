"""The page at `/` for people with a browser: static files, and who gets them."""
