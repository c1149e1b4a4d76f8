"""Owns golden prompts as tenants send them and as they are stored: a question each version can be asked again, with the
answer it has to give."""

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

import msgspec
from msgspec import Meta, Struct
from uuid_utils.compat import uuid7

from loraplex.platform.body import decode_body
from loraplex.platform.db.models import GoldenPrompt
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.checks import check_chat
from loraplex.platform.inference.schemas import ChatRequest, TokenId

MOST = 16  # per version: they are generated one after the other whenever an engine has loaded it
MAX_TOKENS = 256
MAX_BYTES = 64 * 1024  # of all prompts of a version together, as JSON
MAX_EXPECTED = 16 * 1024  # characters; 256 tokens have far fewer


class Golden(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One golden prompt: text, token ids or a conversation. Without `expected` the first answer is recorded as such."""

    prompt: str | list[TokenId] | None = None
    messages: Annotated[list[dict[str, object]], Meta(min_length=1)] | None = None
    max_tokens: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] = 64
    expected: Annotated[str, Meta(max_length=MAX_EXPECTED)] | None = None


def read_golden(data: bytes) -> tuple[Golden, ...]:
    """Golden prompts from a JSON list.

    Raises:
        BadRequestError: too many or too long, or one that could not be asked; `param` is its path.
    """
    if len(data) > MAX_BYTES:
        raise BadRequestError(
            f"golden: at most {MAX_BYTES // 1024} KiB are allowed.",
            param="golden",
            code="invalid_value",
        )
    try:
        golden = decode_body(data, list[Golden])
    except BadRequestError as error:
        raise _within("golden", error) from None
    if len(golden) > MOST:
        raise BadRequestError(
            f"golden: at most {MOST} prompts are allowed.", param="golden", code="invalid_value"
        )
    for i, each in enumerate(golden):
        _check(f"golden[{i}]", each)
    return tuple(golden)


def stored_golden(stored: object) -> tuple[Golden, ...]:
    """Golden prompts as an upload keeps them."""
    return tuple(msgspec.convert(stored or [], list[Golden]))


def golden_rows(tenant_id: UUID, version_id: UUID, golden: Sequence[Golden]) -> list[GoldenPrompt]:
    """Rows for the prompts of a version, in their order."""
    ids = sorted(uuid7() for _ in golden)
    return [
        GoldenPrompt(
            id=row_id,
            tenant_id=tenant_id,
            version_id=version_id,
            prompt={"prompt": each.prompt}
            if each.messages is None
            else {"messages": each.messages},
            max_tokens=each.max_tokens,
            expected=each.expected,
        )
        for row_id, each in zip(ids, golden, strict=True)
    ]


def chat_of(messages: object) -> ChatRequest:
    """The request that asks a conversation.

    Raises:
        BadRequestError: a message that cannot be asked.
    """
    body = msgspec.json.encode({"model": "", "messages": messages})
    request = decode_body(body, ChatRequest)
    check_chat(request)
    return request


def _check(path: str, golden: Golden) -> None:
    if (golden.prompt is None) == (golden.messages is None):
        raise BadRequestError(
            f"{path}: give either prompt or messages.",
            param=path,
            code="invalid_value",
        )
    if "\0" in (golden.expected or ""):
        raise BadRequestError(
            f"{path}.expected: remove the NUL character.",
            param=f"{path}.expected",
            code="invalid_value",
        )
    if golden.prompt in ("", []):
        raise BadRequestError(
            f"{path}.prompt: it is empty.", param=f"{path}.prompt", code="invalid_value"
        )
    if golden.messages is not None:
        try:
            chat_of(golden.messages)
        except BadRequestError as error:
            raise _within(path, error) from None


def _within(path: str, error: BadRequestError) -> BadRequestError:
    inner = error.param or ""
    joined = path + (f".{inner}" if inner and not inner.startswith("[") else inner)
    return BadRequestError(f"{path}: {error.message}", param=joined, code=error.code)
