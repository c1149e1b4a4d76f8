"""The Responses API: chat with typed items, typed events, and answers that are kept to build on."""
