"""Every field of OpenAI's API does what docs/openai.md says, against one running service."""

import json
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import tokenizers

from conformance.document import FILE, ROUTES, name_of, render
from conformance.judged import Ask, Field, Route, paths
from loraplex.engine.config import EngineConfig
from support.checkpoints import VOCAB_SIZE, tiny_model, write_tokenizer
from support.in_background import in_background
from support.services import OPERATOR, bearer
from support.whole_service import WholeService

MARKS = ["<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"]
# Calls of functions as Hermes and Qwen write them.
TEMPLATE = (
    "{{ bos_token }}{% if tools %}<|im_start|>system\n{{ tools | tojson }} in <tool_call></tool_call><|im_end|>\n"
    "{% endif %}{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}"
    "{% for call in message.tool_calls %}<tool_call>{{ call.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPEC = json.loads((Path(__file__).parent / "spec.json").read_text())
FIELDS = [(route, field) for route in ROUTES for field in route.request]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A tenant's client of a service whose model can fill gaps."""
    folder = tmp_path_factory.mktemp("conformance")
    model = tiny_model(folder / "model", vocab_size=VOCAB_SIZE + len(MARKS))
    write_tokenizer(model, chat_template=TEMPLATE)
    file = str(model / "tokenizer.json")
    tokenizer = tokenizers.Tokenizer.from_file(file)
    tokenizer.add_special_tokens(MARKS)
    tokenizer.save(file)
    config = EngineConfig(model=model, device="cpu", max_num_seqs=16, arena_bytes=64 * 2**20)
    memory = 8 * 2**20
    service = WholeService(config, folder / "data", host_bytes=memory, disk_bytes=memory)
    try:
        with in_background(service.running()), httpx.Client(base_url=service.url) as client:
            operator = bearer(OPERATOR)
            client.post("/api/v1/tenants", json={"name": "t"}, headers=operator)
            made = client.post("/api/v1/tenants/t/keys", json={}, headers=operator)
            client.headers = httpx.Headers(bearer(made.json()["key"]))
            client.timeout = httpx.Timeout(120)
            yield client
    finally:
        service.close()


@pytest.mark.parametrize(("route", "field"), [pytest.param(*f, id=name_of(*f)) for f in FIELDS])
def test_field(http: httpx.Client, route: Route, field: Field) -> None:
    ask = Ask(http, route.path, route.minimal)
    assert field.effect or field.refused
    if field.effect is not None:
        field.effect(ask)
    for body in field.refused:
        assert ask.refusal(**body)["param"] in (field.param, field.name), body


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_answers(http: httpx.Client, route: Route) -> None:
    bodies = route.answers(Ask(http, route.path, route.minimal))
    sent = {path for body in bodies for path in paths(body)}
    promised = {name for name, present in route.response.items() if present}
    assert promised <= sent
    # What OpenAI does not know of, or what the document denies.
    documented = set(SPEC[route.name]["response"])
    assert not {path for path in sent - promised if path in documented}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.name)
def test_nothing_that_openai_documents_is_left_out(route: Route) -> None:
    fields = [field.name for field in route.request]
    assert len(set(fields)) == len(fields)
    assert set(fields) == set(SPEC[route.name]["request"])
    assert set(route.response) == set(SPEC[route.name]["response"])


@pytest.mark.parametrize("route", [r for r in ROUTES if r.request], ids=lambda route: route.name)
def test_what_nobody_documents_is_refused_by_name(http: httpx.Client, route: Route) -> None:
    error = Ask(http, route.path, route.minimal).refusal(made_up=1)
    assert (error["param"], error["code"]) == ("made_up", "unknown_parameter")


def test_the_document_is_what_is_tested() -> None:
    assert FILE.read_text() == render(), "run `make conformance`"
