"""What the named corpora need: fetching packages, and readers of what is inside them."""
