"""mlxd as a service of its account: units, their managers, and what such a server leaves behind."""
