"""Limits, and the ledger rows they are counted by: reserved before an engine works, settled once when it has."""
