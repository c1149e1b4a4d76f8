"""Copies of the database that can be restored, and proof that one is whole."""
