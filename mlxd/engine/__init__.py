"""Everything between the neutral request and the neutral event stream; no dialect is known here."""
