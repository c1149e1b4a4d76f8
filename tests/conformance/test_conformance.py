"""Every field of OpenAI's API does what docs/openai.md says, against one running service."""

import ast
from collections.abc import Iterator
from pathlib import Path

import httpx
import pydantic
import pytest

from conformance import wire
from conformance.document import FILE, ROUTES, name_of, render, reply_name
from conformance.judged import Effect, Field, Reply, Route, no, plain
from conformance.served import serving
from conformance.spec import paths, seen

# Their messages name the field, too.
NAMING = ("invalid_value", "unsupported_value", "missing_required_parameter", "unknown_parameter")
ROOT = Path(__file__).parents[2]
FIELDS = [pytest.param(r, f, id=name_of(r, f)) for r in ROUTES for f in r.fields if not f.shown_by]
REPLIES = [pytest.param(r, reply, id=reply_name(r, reply)) for r in ROUTES for reply in r.replies]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    with serving(tmp_path_factory.mktemp("conformance")) as client:
        yield client


@pytest.fixture(scope="module")
def shown() -> set[tuple[str, Effect]]:
    """Effects that were seen: what shows several fields runs once."""
    return set()


@pytest.mark.parametrize(("route", "field"), FIELDS)
def test_field(
    http: httpx.Client, shown: set[tuple[str, Effect]], route: Route, field: Field
) -> None:
    ask = route.ask(http)
    assert field.effect or field.refused
    if field.effect is not None and (route.title, field.effect) not in shown:
        field.effect(ask)
        shown.add((route.title, field.effect))
        ask = route.ask(http)  # what it was about may be gone
    for refusal in field.refused:
        answer = ask.raw(**refusal.fields)
        assert answer.status_code == refusal.status, answer.text
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert error["code"] == refusal.code, error
        assert error["param"] == (refusal.at or plain(field.name)), error
        if error["code"] in NAMING:
            assert error["param"] in error["message"], error


@pytest.mark.parametrize(("route", "reply"), REPLIES)
def test_answers(http: httpx.Client, route: Route, reply: Reply) -> None:
    bodies = reply.answers(route.ask(http))
    closed = {*reply.never, *reply.null, *(reply.inside or {})}
    known = paths(reply.kind, closed)
    told = [each for body in bodies for each in seen(body, known)]
    assert {path for path, value in told if value is not None} & known == set(reply.sent)
    # The others are there, and null.
    assert {path for path, _ in told} & known - set(reply.sent) <= {
        *reply.null,
        *(reply.elsewhere or ()),
    }
    assert set(reply.null) <= {path for path, _ in told}
    assert {path for path, _ in told} - known == set(reply.extras)
    client = pydantic.TypeAdapter(reply.kind)
    for body in bodies:
        client.validate_python(body, strict=True)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.title)
def test_nothing_that_is_documented_is_left_out(route: Route) -> None:
    names = [field.name for field in route.fields]
    assert len(set(names)) == len(names)
    closed = {field.name for field in route.fields if field.closed}
    assert set(names) == (set() if route.kind is None else paths(route.kind, closed))
    for reply in route.replies:
        inside, elsewhere = reply.inside or {}, reply.elsewhere or {}
        said = [*reply.sent, *reply.null, *reply.never, *elsewhere]
        assert len(set(said)) == len(said)
        assert set(inside) <= set(said)
        assert set(said) == paths(reply.kind, {*reply.never, *reply.null, *inside})


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if r.fields and r.strict], ids=lambda route: route.title
)
def test_what_nobody_documents_is_refused_by_name(http: httpx.Client, route: Route) -> None:
    refusal = no("unknown_parameter", made_up="1")
    error = route.ask(http).raw(**refusal.fields).json()["error"]
    assert (error["param"], error["code"]) == ("made_up", refusal.code)


@pytest.mark.parametrize("rule", [r for r in wire.RULES if r.check], ids=lambda rule: rule.name)
def test_rule(http: httpx.Client, rule: wire.Rule) -> None:
    assert rule.check is not None
    rule.check(http)


def test_absent(http: httpx.Client) -> None:
    for method, path, _ in wire.ABSENT:
        answer = http.request(method, path)
        assert answer.status_code in (404, 405), path
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_the_tests_that_are_named_are_there() -> None:
    named = [field.shown_by for route in ROUTES for field in route.fields]
    replies = [reply for route in ROUTES for reply in route.replies]
    named += [test for reply in replies for test in (reply.elsewhere or {}).values()]
    named += [rule.shown_by for rule in wire.RULES]
    for test in filter(None, named):
        file, name = test.split("::")
        defined = ast.walk(ast.parse((ROOT / file).read_text()))
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        assert name in {each.name for each in defined if isinstance(each, functions)}, test


def test_the_document_is_what_is_tested() -> None:
    assert FILE.read_text() == render(), "run `make conformance`"
