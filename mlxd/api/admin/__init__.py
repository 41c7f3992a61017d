"""`/admin` and `/metrics`, and the activity that they show."""
