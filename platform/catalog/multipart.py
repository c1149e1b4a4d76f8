"""Owns the parts of an adapter upload in one multipart body."""

from collections.abc import AsyncIterator
from pathlib import Path

from loraplex.platform.forms import Form, FormShape, read_form

TEXT_LIMIT = 64 * 1024  # bytes of `config` and of every text part
TEXT_PARTS = (
    "name",
    "config",
    "base",
    "alias",
    "chat_template",
    "parent",
    "defaults",
    "golden",
)


async def read_adapter_form(
    content_type: str, body: AsyncIterator[bytes], folder: Path, limit: int
) -> Form:
    """Read `body` to its end, spooling the weights, of at most `limit` bytes, under `folder`.

    Raises:
        BadRequestError: not multipart, malformed, an unknown, repeated or missing part.
        PayloadTooLargeError: a text part above `TEXT_LIMIT`.
    """
    wanted = "send adapter_model.safetensors as this part"
    shape = FormShape("adapter", TEXT_PARTS, TEXT_LIMIT, "weights", wanted, limit)
    return await read_form(content_type, body, folder, shape)
