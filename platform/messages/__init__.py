"""The Messages API of Anthropic's clients: another way to put a chat."""
