"""The OpenAI API's batches: requests of a file, run when there is room."""
