"""The server process: its sockets, what it is put together from, how it starts and ends."""
