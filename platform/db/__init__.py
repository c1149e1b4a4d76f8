"""The database: models, connections, weights in chunk rows, migrations."""
