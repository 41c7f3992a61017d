"""`mlxd models`: what is here, what there is, and whether it is whole."""
