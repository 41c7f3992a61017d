"""What both terminal apps share; they know the server by its wire alone."""
