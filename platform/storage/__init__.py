"""What weights and files take, and removing what nothing refers to any more."""
