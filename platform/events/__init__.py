"""Live state as a stream of events: one sampler for all who watch."""
