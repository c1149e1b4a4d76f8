"""Owns how long tests wait for what takes milliseconds on a free machine. Two loaded cores may take a thousand times
as long, and a test that waits for a condition ends as soon as it holds."""

PATIENCE_SECONDS = 60.0
