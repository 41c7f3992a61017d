"""Commands for servers that run: the service, and whatever else this account has started."""
