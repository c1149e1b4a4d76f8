"""The command line `loraplex`."""
