"""Owns which documented fields of the Responses API are refused, each by its name."""

from collections.abc import Iterable

import msgspec

from loraplex.platform.body import decode_part
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.dialects import refused
from loraplex.platform.responses.schemas import InputFields, ResponseRequest, TokensRequest

LOGPROBS = "message.output_text.logprobs"
# What may be asked for: our reasoning items always carry their text, so there is nothing to encrypt.
INCLUDABLE = (LOGPROBS, "reasoning.encrypted_content")
LEAST_OUTPUT_TOKENS = 16


def check_response(request: ResponseRequest) -> None:
    """Refuse what cannot be done.

    Raises:
        BadRequestError: naming the field.
    """
    check_input(request)
    if request.background:
        raise refused(
            "background",
            "background is not supported; leave it out, and set stream to true for what takes long.",
        )
    _refuse_set(
        ("background_options", request.background_options),
        ("prompt", request.prompt),
        ("context_management", request.context_management),
        ("moderation", request.moderation),
        ("access_programs", request.access_programs),
        ("image", request.image),
    )
    tokens = request.max_output_tokens
    if tokens is not None and tokens < LEAST_OUTPUT_TOKENS:
        raise BadRequestError(
            f"max_output_tokens must be at least {LEAST_OUTPUT_TOKENS}.",
            param="max_output_tokens",
            code="invalid_value",
        )
    for i, name in enumerate(request.include or ()):
        _refuse_other(f"include[{i}]", name, INCLUDABLE)
    if request.stream_options is not None and not request.stream:
        raise refused("stream_options", "stream_options needs stream to be true.")


def check_input(request: InputFields) -> None:
    """Refuse what no prompt can be made of.

    Raises:
        BadRequestError: naming the field.
    """
    _refuse_set(("conversation", request.conversation))
    if isinstance(request, TokensRequest):
        _refuse_set(("personality", request.personality))
    _refuse_other("truncation", request.truncation, ("disabled",))
    reasoning = request.reasoning
    if reasoning is None:
        return
    # Nothing here writes summaries; the items of reasoning carry what was thought, which is more than "auto" asks for.
    _refuse_other("reasoning.summary", reasoning.summary, ("auto",))
    _refuse_other("reasoning.generate_summary", reasoning.generate_summary, ("auto",))
    _refuse_other("reasoning.context", reasoning.context, ("auto",))
    _refuse_other("reasoning.mode", reasoning.mode, ("standard",))


def _refuse_set(*fields: tuple[str, msgspec.Raw]) -> None:
    for name, value in fields:
        if decode_part(value, object, name) is not None:
            raise refused(name, f"{name} is not supported; leave it out.")


def _refuse_other(name: str, value: str | None, allowed: Iterable[str]) -> None:
    if value is not None and value not in allowed:
        choices = " or ".join(repr(choice) for choice in allowed)
        raise refused(
            name, f"{name} {value[:60]!r} is not supported; send {choices}, or leave it out."
        )
