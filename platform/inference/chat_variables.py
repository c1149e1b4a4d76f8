"""Owns what a request may tell a chat template beside the conversation, and that the template listens to it."""

import re

from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.chat_template import Json
from loraplex.platform.inference.reasoning import Marks
from loraplex.platform.inference.schemas import ChatRequest

_OWN = (
    "messages",
    "tools",
    "documents",
    "bos_token",
    "eos_token",
    "add_generation_prompt",
    "continue_final_message",
)
MAX_KWARGS = 32
MAX_KWARG_BYTES = 16 * 1024
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


def uses(template: str, variable: str) -> bool:
    """Whether a chat template reads a variable."""
    return re.search(rf"(?<![\w.'\"]){re.escape(variable)}\b", template) is not None


def extras(request: ChatRequest, template: str) -> Json:
    """The variables of `chat_template_kwargs`.

    Raises:
        BadRequestError: naming one that is not a name, is set by a field of its own, or is not read by the template; or
            `documents`, if those are not.
    """
    variables: Json = {}
    kwargs = request.chat_template_kwargs or {}
    if len(kwargs) > MAX_KWARGS:
        raise _refused(
            "chat_template_kwargs", f"chat_template_kwargs takes at most {MAX_KWARGS} variables."
        )
    for name, value in kwargs.items():
        where = f"chat_template_kwargs.{name[:64]}"
        if _NAME.fullmatch(name) is None:
            raise _refused(where, f"{where} is not a variable's name.")
        if name in _OWN:
            raise _refused(where, f"{where} cannot be set here; {name} is set by the request.")
        if isinstance(value, str) and len(value) > MAX_KWARG_BYTES:
            raise _refused(where, f"{where} takes at most {MAX_KWARG_BYTES} characters.")
        if not uses(template, name):
            raise _refused(
                where, f"{where}: this model's chat template has no such variable; leave it out."
            )
        variables[name] = value
    if request.documents and not uses(template, "documents"):
        raise _refused(
            "documents",
            "documents: this model's chat template has no place for them; put them into a message.",
        )
    return variables


def effort(value: str | None, template: str, marks: Marks | None) -> Json:
    """The variables that stand for `reasoning_effort`.

    Raises:
        BadRequestError: the model cannot be told so.
    """
    if value is None:
        return {}
    if uses(template, "reasoning_effort"):
        return {"reasoning_effort": value}
    if uses(template, "enable_thinking"):
        # It thinks or it does not; OpenAI's default effort is what it has when it does.
        if value in ("none", "medium"):
            return {"enable_thinking": value != "none"}
        raise _refused(
            "reasoning_effort",
            f"reasoning_effort {value[:40]!r} is not supported by this model; send 'none' or 'medium'.",
        )
    if marks is None and value == "none":
        return {}
    can = "it cannot be told how much to think" if marks is not None else "it does not reason"
    raise _refused(
        "reasoning_effort",
        f"reasoning_effort {value[:40]!r} is not supported by this model: {can}; leave it out.",
    )


def _refused(param: str, message: str) -> BadRequestError:
    return BadRequestError(message, param=param, code="unsupported_value")
