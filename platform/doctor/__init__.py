"""What `loraplex doctor` looks at: the machine, the database, the running service."""
