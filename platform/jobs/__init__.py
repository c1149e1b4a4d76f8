"""Work in the background that outlives the process it began in."""
