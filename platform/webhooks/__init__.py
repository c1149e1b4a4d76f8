"""Telling tenants of what happens: their webhooks, the events, and getting these there."""
