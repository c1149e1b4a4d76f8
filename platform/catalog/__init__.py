"""Adapters as tenants see them: names, versions, aliases, uploads."""
