"""Owns turning a conversation into the text a model was trained on, with the Jinja template that came with it."""

import json
from datetime import datetime
from typing import NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

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

    def render(self, variables: Json) -> str:
        """The prompt that a conversation becomes. `variables` are those that templates expect, `messages` among them.

        Raises:
            TemplateError: the template refuses these messages or fails on them.
        """
        try:
            text = self._template.render(variables)
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


def _to_json(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes for HTML; models were trained on plain JSON.
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
