"""What the supervisor is made of: process, restarts, watching, and the routing of replies."""
