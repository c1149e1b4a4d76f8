"""The OpenAI-compatible routes: wire types, chat templates, streaming, and the way to an engine."""
