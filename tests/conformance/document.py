"""Owns docs/openai.md, written from what the tests here show. `python -m conformance.document` renews it."""

from collections.abc import Iterator
from pathlib import Path

from conformance import chat, completions, embeddings, models
from conformance.judged import Field, Route

ROUTES = (completions.ROUTE, chat.ROUTE, models.ROUTE, embeddings.ROUTE)
FILE = Path(__file__).parents[2] / "docs" / "openai.md"
TEST = "tests/conformance/test_conformance.py"
_HEAD = f"""\
# Conformance with OpenAI's API

Every field that OpenAI documents for the routes served, what becomes of it, and the test that shows it. The tests are
in `{TEST}` unless another file is named. This page is written by `make conformance` and
checked by the tests.

*Supported*: it does what OpenAI says. *Partly*: some values are refused. *Refused*: answered with 400 and an error
that names the field, unless it has a value that asks for nothing. *Ignored*: taken, checked if it says so, and without
effect. A field that OpenAI does not document and that is none of
[this server's extras](api.md#fields-of-both-routes) is refused.
"""


def name_of(route: Route, field: Field) -> str:
    """How pytest calls the test of a field."""
    return f"{route.name}-{field.name}"


def render() -> str:
    """The whole document."""
    return "\n".join([_HEAD, *(line for route in ROUTES for line in _route(route))])


def _route(route: Route) -> Iterator[str]:
    yield f"## {route.name.capitalize()}\n\n`{route.path}`\n"
    if route.request:
        yield "| Field of the request | | | Shown by |\n|---|---|---|---|"
        for field in route.request:
            test = field.shown_by or f"test_field[{name_of(route, field)}]"
            yield f"| `{field.name}` | {field.status} | {field.note} | `{test}` |"
        yield ""
    sent = [name for name, present in route.response.items() if present]
    absent = [name for name, present in route.response.items() if not present]
    yield f"Fields of answers, shown by `test_answers[{route.name}]`:\n"
    yield f"- sent: {_quoted(sent)}"
    if absent:
        yield f"- never sent: {_quoted(absent)}"
    yield ""


def _quoted(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    FILE.write_text(render())
