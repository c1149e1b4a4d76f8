"""What may be used: limits of tenants, keys and adapters, and what using costs."""
