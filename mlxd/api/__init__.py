"""HTTP: the contract of the dialects, the dialects, and the application that serves them."""
