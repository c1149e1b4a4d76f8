"""A load generator against a running server."""
