"""People: users, their passwords and sessions, what they are in tenants, and the codes that let them in."""
