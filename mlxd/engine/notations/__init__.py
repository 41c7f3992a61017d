"""How families of models write tool calls: one value each, one family a file."""
