"""The decoder that runs every supported family, and how its weights are read."""
