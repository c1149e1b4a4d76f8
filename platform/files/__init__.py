"""The OpenAI API's files and uploads."""
