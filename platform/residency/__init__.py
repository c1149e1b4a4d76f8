"""What is in the memory of which engine: shown to its owners, and what operators pinned there."""
