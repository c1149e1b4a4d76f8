"""Owns the ways an adapter can fail: refused at admission, or lost or damaged on its way to the engine."""


class AdapterRejected(ValueError):  # noqa: N818 - the verdict's own word
    """An adapter cannot be served as it is.

    Attributes:
        field: the config field at fault, or `config` / `weights` for the file as a whole.
        message: what is wrong and what to do, fit for the adapter's owner.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
        self.message = message


class BlobUnavailableError(Exception):
    """Stored bytes cannot be read; the message is fit for the adapter's owner."""


class BlobInterruptedError(BlobUnavailableError):
    """Stored bytes could not be read this time; another attempt may go better."""


class DigestMismatchError(BlobUnavailableError):
    """Stored bytes are not the ones their digest names."""
