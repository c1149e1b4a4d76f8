"""Owns turning a conversation into the text a model was trained on, with the Jinja template that came with it."""

import json
from datetime import datetime
from typing import NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from loraplex.platform.inference.schemas import Message

Json = dict[str, object]


class TemplateError(ValueError):
    """A template is broken, or refuses the conversation; the message is fit for the client."""


class _Generation(Extension):
    """Training libraries mark the assistant's part with `{% generation %}`; for serving it is plain text."""

    tags = {"generation"}  # noqa: RUF012 - the name and the type are Jinja's

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """A compiled template. It cannot reach Python objects, but may take any time and memory: render one of a tenant
    only in a process made for that."""

    def __init__(self, source: str) -> None:
        """Raises TemplateError when the source is not valid Jinja."""
        environment = _environment()
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        try:
            self._template = environment.from_string(source)
        # SyntaxError: blocks nested deeper than Python, which Jinja compiles to, allows.
        except (
            jinja2.TemplateError,
            SyntaxError,
            RecursionError,
            MemoryError,
            ArithmeticError,
        ) as error:
            raise TemplateError(f"The chat template is not valid: {_printable(error)}") from None

    def render(self, messages: list[Json], *, bos_token: str, eos_token: str) -> str:
        """The prompt, ending where the assistant's answer begins.

        Raises:
            TemplateError: the template refuses these messages or fails on them.
        """
        try:
            text = self._template.render(
                messages=messages,
                add_generation_prompt=True,
                bos_token=bos_token,
                eos_token=eos_token,
                tools=None,
                documents=None,
            )
        except Exception as error:  # a template can raise whatever Python can
            reason = _printable(error)
            raise TemplateError(f"The chat template refused these messages: {reason}") from None
        if not _is_unicode(text):
            raise TemplateError("The chat template made a text with half a surrogate pair in it.")
        return text


def check_syntax(source: str) -> None:
    """Parse a template without compiling it, which would already compute its constants.

    Raises:
        jinja2.TemplateSyntaxError: with the line.
        RecursionError: it is nested too deeply.
    """
    _environment().parse(source)


def _environment() -> ImmutableSandboxedEnvironment:
    return ImmutableSandboxedEnvironment(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.loopcontrols", _Generation],
    )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _printable(error: Exception) -> str:
    # The template chooses the text, and may put half a surrogate pair into it.
    return str(error).encode(errors="replace").decode() or type(error).__name__


def template_messages(messages: list[Message]) -> list[Json]:
    """Messages as templates expect them: plain text contents, `developer` as `system`, arguments as objects."""
    return [_template_message(message) for message in messages]


def _template_message(message: Message) -> Json:
    result: Json = {
        "role": "system" if message.role == "developer" else message.role,
        "content": _content(message),
    }
    if message.name is not None:
        result["name"] = message.name
    if message.tool_call_id is not None:
        result["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        result["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.function.name,
                    "arguments": _arguments(call.function.arguments),
                },
            }
            for call in message.tool_calls
        ]
    return result


def _content(message: Message) -> str:
    if isinstance(message.content, list):
        return "\n".join(part.text or part.refusal or "" for part in message.content)
    return message.content or message.refusal or ""


def _arguments(text: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _to_json(value: object, indent: int | None = None) -> str:
    # Jinja's own filter escapes for HTML; models were trained on plain JSON.
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
