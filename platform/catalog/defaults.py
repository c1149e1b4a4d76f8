"""Owns the sampling parameters that come with a version: which there are, whether they are valid, and where a request
takes them."""

from typing import TypeVar

import msgspec

from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.params import completion_params
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest, Int, Seed

Request = TypeVar("Request", CompletionRequest, ChatRequest)


class Defaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a request gets that leaves a field out; the fields are those of requests."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: Int | None = None
    min_p: float | None = None
    max_tokens: Int | None = None
    stop: str | list[str] | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: Seed | None = None


def read_defaults(data: bytes) -> Defaults | None:
    """Defaults from JSON; None if nothing is set.

    Raises:
        BadRequestError: a field that is unknown or out of the range it has in a request, named `defaults.FIELD`.
    """
    try:
        defaults = decode_body(data, Defaults)
        completion_params(with_defaults(CompletionRequest(model=""), defaults))
    except BadRequestError as error:
        param = "defaults" if error.param is None else f"defaults.{error.param}"
        raise BadRequestError(f"defaults: {error.message}", param=param, code=error.code) from None
    return None if defaults == Defaults() else defaults


def stored_defaults(stored: dict[str, object] | None) -> Defaults | None:
    """Defaults as a version keeps them."""
    return None if stored is None else msgspec.convert(stored, Defaults)


def with_defaults(request: Request, defaults: Defaults | None) -> Request:
    """The request with defaults where it says nothing; null says nothing."""
    if defaults is None:
        return request
    missing = {
        name: value
        for name in Defaults.__struct_fields__
        if (value := getattr(defaults, name)) is not None and getattr(request, name) is None
    }
    return msgspec.structs.replace(request, **missing) if missing else request
