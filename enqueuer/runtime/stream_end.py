"""How a session says that its stream has ended."""


class StreamEnd(Exception):
    """No more batches: the session was stopped, or the epoch asked for is over. Never leaves this library."""
