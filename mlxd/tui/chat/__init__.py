"""`mlxd chat`: a conversation with the server in the terminal."""
