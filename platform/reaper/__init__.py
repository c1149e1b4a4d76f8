"""Which API workers live, and settling what those that died have left open."""
