"""Engine processes as the rest of the platform sees them: messages, process, asyncio client, pool."""
