"""API keys and what a request may do."""
