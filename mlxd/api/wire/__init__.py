"""What the bodies of all vendors have in common."""
