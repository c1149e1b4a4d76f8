"""Function calls in the text of models: one file per way to write them."""
