"""Owns docs/openai.md, written from what the tests here show. `python -m conformance.document` renews it."""

from collections import Counter
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from conformance import (
    batches,
    chat,
    completions,
    embeddings,
    files,
    models,
    responses,
    uploads,
    wire,
)
from conformance.judged import Field, Refusal, Reply, Route, Status

ROUTES = (
    completions.ROUTE,
    chat.ROUTE,
    embeddings.ROUTE,
    models.ROUTE,
    *files.ROUTES,
    *uploads.ROUTES,
    *batches.ROUTES,
    *responses.ROUTES,
)
FILE = Path(__file__).parents[2] / "docs" / "openai.md"
TEST = "tests/conformance/test_conformance.py"
_HEAD = f"""\
# Conformance with OpenAI's API

Every field that OpenAI documents for the routes served, what becomes of it, and the test that shows it. The fields are
those of the types of OpenAI's own Python client, version {{version}}. The
tests are in `{TEST}` unless another file is named. This page is written by
`make conformance` and checked by the tests, which fail if a field is left out, has no test, or does something else.

*Supported*: it does what OpenAI says. *Partly*: some values are refused. *Refused*: answered with an error that names
the field, unless it has a value that asks for nothing. *Ignored*: taken, checked, and without effect, for the reason
given. What is refused is answered with 400 and the code shown, unless another status is. Paths: `[]` follows a list,
`(kind)` what has several kinds, told apart by their `type`; what is below a field that is refused or ignored is so too.
A field that OpenAI does not document and that is none of [this server's extras](api.md#fields-of-both-routes) is
refused with `unknown_parameter`.
"""


def name_of(route: Route, field: Field) -> str:
    """How pytest calls the test of a field."""
    return f"{route.title}-{field.name}"


def reply_name(route: Route, reply: Reply) -> str:
    """How pytest calls the test of a kind of answer."""
    return f"{route.title}-{reply.name}" if reply.name else route.title


def render() -> str:
    """The whole document."""
    head = _HEAD.format(version=version("openai"))
    parts = [head, *_counts(), *(line for route in ROUTES for line in _route(route))]
    return "\n".join([*parts, *_wire()])


def _counts() -> Iterator[str]:
    statuses = Counter(str(field.status) for route in ROUTES for field in route.fields)
    replies = [reply for route in ROUTES for reply in route.replies]
    sent = sum(len(reply.sent) + len(reply.elsewhere or ()) for reply in replies)
    null, never = (sum(len(getattr(r, kind)) for r in replies) for kind in ("null", "never"))
    told = ", ".join(f"{statuses[status]} {status}" for status in Status)
    yield f"Fields of requests: {told}. Fields of answers: {sent} sent, {null} always null, {never} never sent.\n"


def _route(route: Route) -> Iterator[str]:
    yield f"## {route.title}\n\n`{route.route}`\n"
    if route.fields:
        yield "| Field of the request | | | Refused with | Shown by |\n|---|---|---|---|---|"
        yield from (_field(route, field) for field in route.fields)
        yield ""
    for reply in route.replies:
        name = f" ({reply.name})" if reply.name else ""
        yield f"Fields of answers{name}, shown by `test_answers[{reply_name(route, reply)}]`:\n"
        yield f"- sent: {_quoted(reply.sent)}"
        for field, place in (reply.inside or {}).items():
            yield f"- what is in `{field}`: see {place}"
        for field, test in (reply.elsewhere or {}).items():
            yield f"- sent: `{field}`, shown by `{test}`"
        told = ("always null", reply.null), ("never sent", reply.never), ("extras", reply.extras)
        yield from (f"- {kind}: {_quoted(names)}" for kind, names in told if names)
        yield ""


def _field(route: Route, field: Field) -> str:
    note = f"{field.note}; see {field.inside}" if field.note and field.inside else field.note
    if field.inside and not field.note:
        note = f"see {field.inside}"
    codes = dict.fromkeys(_code(refusal) for refusal in field.refused)
    test = field.shown_by or f"test_field[{name_of(route, field)}]"
    return f"| `{field.name}` | {field.status} | {note} | {', '.join(codes)} | `{test}` |"


def _code(refusal: Refusal) -> str:
    return f"`{refusal.code}`" if refusal.status == 400 else f"{refusal.status} `{refusal.code}`"


def _wire() -> Iterator[str]:
    yield "## Errors, headers, streams\n\n| | | Shown by |\n|---|---|---|"
    for rule in wire.RULES:
        test = rule.shown_by or f"test_rule[{rule.name}]"
        yield f"| {rule.name} | {rule.note} | `{test}` |"
    yield "\n## Routes that are not served\n"
    yield "Answered with 404 or 405 and an error of OpenAI's shape, shown by `test_absent`:\n"
    yield from (f"- `{method} {path}`{note}" for method, path, note in wire.ABSENT)
    yield ""


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    FILE.write_text(render())
