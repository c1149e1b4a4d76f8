"""What weights take, and removing what nothing refers to any more."""
