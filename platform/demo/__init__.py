"""The demo: a small model of our own, adapters trained while you watch, two tenants, one batch."""
