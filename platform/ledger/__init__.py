"""What was served: one row per answer, with where its time went."""
