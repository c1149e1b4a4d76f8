"""JSON Schema, one file for each kind of schema: what it asks for becomes an expression, or is refused by its place."""
