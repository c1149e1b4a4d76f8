"""Adapters fetched from where they were trained: the Hugging Face Hub, S3, a directory of the operator."""
