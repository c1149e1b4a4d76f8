"""Owns which documented fields of the Messages API are refused, each by its name."""

from collections.abc import Iterable

import msgspec

from loraplex.platform.body import decode_part
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.dialects import refused
from loraplex.platform.messages.schemas import MessagesRequest, PromptFields, Thinking

LEAST_BUDGET = 1024  # Anthropic's


def check_messages(request: MessagesRequest) -> None:
    """Refuse what cannot be done.

    Raises:
        BadRequestError: naming the field.
    """
    check_prompt(request)
    _refuse_set(
        ("container", request.container),
        ("inference_geo", request.inference_geo),
        ("diagnostics", request.diagnostics),
    )
    _refuse_other("service_tier", request.service_tier, ("auto", "standard_only"))
    if request.thinking is not None:
        _check_budget(request.thinking, request.max_tokens)


def check_prompt(request: PromptFields) -> None:
    """Refuse what no prompt can be made of.

    Raises:
        BadRequestError: naming the field.
    """
    _refuse_set(
        ("user_profile_id", request.user_profile_id),
        ("workspace_id", request.workspace_id),
        ("mcp_servers", request.mcp_servers),
        ("context_management", request.context_management),
    )
    _refuse_other("speed", request.speed, ("standard",))
    if request.thinking is not None:
        # Nothing here writes summaries: what is thought is shown as it is.
        _refuse_other("thinking.display", request.thinking.display, ())
    choice = request.tool_choice
    if choice is not None and (choice.type == "tool") != (choice.name is not None):
        raise BadRequestError(
            "tool_choice.name goes with the type 'tool', and with no other.",
            param="tool_choice.name",
            code="invalid_value",
        )


def _check_budget(thinking: Thinking, max_tokens: int) -> None:
    budget, path = thinking.budget_tokens, "thinking.budget_tokens"
    if thinking.type != "enabled":
        if budget is not None:
            raise refused(path, f"{path} goes with the type 'enabled'; leave it out.")
        return
    if budget is None:
        raise BadRequestError(f"{path} is missing.", param=path, code="missing_required_parameter")
    if not LEAST_BUDGET <= budget < max_tokens:
        raise BadRequestError(
            f"{path} must be at least {LEAST_BUDGET} and below max_tokens.",
            param=path,
            code="invalid_value",
        )


def _refuse_set(*fields: tuple[str, msgspec.Raw]) -> None:
    for name, value in fields:
        if decode_part(value, object, name) not in (None, []):
            raise refused(name, f"{name} is not supported; leave it out.")


def _refuse_other(name: str, value: str | None, allowed: Iterable[str]) -> None:
    if value is None or value in allowed:
        return
    choices = "".join(f"send {choice!r}, or " for choice in allowed)
    raise refused(name, f"{name} {value[:40]!r} is not supported; {choices}leave it out.")
