"""Build contexts: what files there are, and one hash over all of them."""
