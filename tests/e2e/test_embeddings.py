"""Embeddings, tokenize and detokenize of a real server: vectors equal the hidden states of transformers + PEFT, through
the OpenAI client in both encodings, beside generations."""

import base64
import concurrent.futures
from contextlib import nullcontext
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import torch
from openai import OpenAI
from transformers import AutoTokenizer

from support.checkpoints import load_peft
from support.serve import Serve, Tenant

pytestmark = pytest.mark.e2e

TOLERANCE = 1e-4
TEXTS = ["Hello", "a longer sentence about vectors", "x"]


class States:
    """What transformers + PEFT say; adapters by number."""

    def __init__(self, model: Path, adapters: list[Path]) -> None:
        self._peft = load_peft(model, *adapters)
        self._tokenizer = AutoTokenizer.from_pretrained(model)

    @torch.no_grad()
    def unit(self, text: str | list[int], adapter: int | None, method: str) -> np.ndarray:
        """A vector of length 1."""
        ids = self._tokenizer(text)["input_ids"] if isinstance(text, str) else text
        if adapter is not None:
            self._peft.set_adapter(str(adapter))
        with self._peft.disable_adapter() if adapter is None else nullcontext():
            out = self._peft(torch.tensor([ids]), output_hidden_states=True)
        states = out.hidden_states[-1][0]
        vector = (states.mean(0) if method == "mean" else states[-1]).numpy()
        unit: np.ndarray = vector / np.linalg.norm(vector)
        return unit


@pytest.fixture(scope="module")
def states(model: Path, adapters: list[Path]) -> States:
    return States(model, adapters)


def client_of(tenant: Tenant, *, strict: bool = True) -> OpenAI:
    """Not strict where it asks for base64, as it does unless told otherwise: its types know numbers only."""
    return OpenAI(
        base_url=f"{tenant.url}/v1",
        api_key=tenant.key,
        max_retries=0,
        _strict_response_validation=strict,
    )


def embed(tenant: Tenant, **body: object) -> httpx.Response:
    return tenant.http.post("/v1/embeddings", json={"model": tenant.base, **body})


def test_vectors_equal_the_oracle_beside_generations(acme: Tenant, states: States) -> None:
    inputs: list[str | list[int]] = [*TEXTS, [5, 6, 7]]
    names = {"org/tiny": None, "zero": 0, "one@canary": 1}
    cases = [(name, method) for name in names for method in ("last", "mean")]
    with client_of(acme) as client, concurrent.futures.ThreadPoolExecutor(8) as threads:
        texts = [
            threads.submit(acme.complete, model=name, prompt="Hello", max_tokens=30)
            for name in names
        ]

        def ask(case: tuple[str, str], value: str | list[int]) -> list[float]:
            name, method = case
            answer = client.embeddings.create(
                model=name, input=value, encoding_format="float", extra_body={"pooling": method}
            )
            assert (answer.model, answer.object) == (name, "list")
            return answer.data[0].embedding

        asked = [(case, value) for case in cases for value in inputs]
        vectors = list(threads.map(lambda each: ask(*each), asked))
        assert all(text.result().status_code == 200 for text in texts)
    for ((name, method), value), vector in zip(asked, vectors, strict=True):
        expected = states.unit(value, names[name], method)
        np.testing.assert_allclose(vector, expected, atol=TOLERANCE)


def test_lists_come_back_in_order_in_both_encodings(acme: Tenant, states: States) -> None:
    with client_of(acme, strict=False) as client:
        packed = client.embeddings.create(model="zero", input=TEXTS)
        plain = client.embeddings.create(model="zero", input=TEXTS, encoding_format="float")
        by_ids = client.embeddings.create(model="zero", input=[[1, 2], [3]])
    assert [item.index for item in packed.data] == [0, 1, 2]
    for text, one, other in zip(TEXTS, packed.data, plain.data, strict=True):
        # Not to the last bit: sums in float32 depend on which texts share a step.
        np.testing.assert_allclose(one.embedding, other.embedding, rtol=0, atol=1e-6)
        np.testing.assert_allclose(one.embedding, states.unit(text, 0, "last"), atol=TOLERANCE)
    assert packed.usage == plain.usage
    assert packed.usage.prompt_tokens == packed.usage.total_tokens > len(TEXTS)
    assert (len(by_ids.data), by_ids.usage.prompt_tokens) == (2, 3)
    raw = embed(acme, input="Hello", encoding_format="base64").json()["data"][0]["embedding"]
    assert len(base64.b64decode(raw)) == 4 * len(plain.data[0].embedding)


def test_a_vector_that_is_not_normalized(acme: Tenant) -> None:
    unit, plain = (
        np.array(embed(acme, input="Hello", normalize=flag).json()["data"][0]["embedding"])
        for flag in (True, False)
    )
    assert abs(np.linalg.norm(unit) - 1) < 1e-5
    np.testing.assert_allclose(plain / np.linalg.norm(plain), unit, atol=1e-5)
    assert abs(np.linalg.norm(plain) - 1) > 1e-3


def test_the_ledger_has_one_row_with_the_tokens_of_all_inputs(server: Serve, acme: Tenant) -> None:
    answer = embed(acme, model="one", input=["Hello", "Hello", "Ho"])
    assert answer.headers["x-loraplex-version"] == "one@1"
    tokens = answer.json()["usage"]["prompt_tokens"]
    rows = f"/api/v1/requests?tenant={acme.name}&endpoint=embeddings&limit=1"

    def row() -> dict[str, object]:
        (newest,) = server.operator.get(rows).json()["data"]
        assert isinstance(newest, dict)
        return newest

    server.wait(lambda: row()["state"] == "settled")
    newest = row()
    assert (newest["adapter"], newest["version"], newest["choices"]) == ("one", 1, 3)
    assert (newest["prompt_tokens"], newest["output_tokens"]) == (tokens, 0)
    assert newest["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        ({}, "input", None),
        ({"input": ""}, "input", "invalid_value"),
        ({"input": []}, "input", "invalid_value"),
        ({"input": ["a", ""]}, "input[1]", "invalid_value"),
        ({"input": [[1], []]}, "input[1]", "invalid_value"),
        ({"input": ["a", 1]}, "input", "invalid_value"),
        ({"input": ["a"] * 2049}, "input", "invalid_value"),
        ({"input": [[1] * 10_000] * 31}, "input", "invalid_value"),
        ({"input": [999_999]}, "input", None),
        ({"input": [1] * 20_000}, "input", "context_length_exceeded"),
        ({"input": "a", "dimensions": 8}, "dimensions", "unsupported_value"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", None),
        ({"input": "a", "pooling": "cls"}, "pooling", None),
        ({"input": "a", "stream": True}, "stream", None),
    ],
)
def test_what_cannot_be_embedded_is_refused_by_name(
    acme: Tenant, body: dict[str, object], param: str, code: str | None
) -> None:
    answer = embed(acme, **body)
    error = answer.json()["error"]
    assert answer.status_code == 400, error
    assert error["param"] == param, error
    assert code in (None, error["code"]), error
    assert "prompt" not in error["message"].split(";")[0].replace("in the prompt and", "")


def test_models_of_others_are_not_found(acme: Tenant) -> None:
    with client_of(acme) as client, pytest.raises(openai.NotFoundError) as raised:
        client.embeddings.create(model="two", input="a")
    assert raised.value.code == "model_not_found"
    answer = acme.http.post("/t/globex/v1/embeddings", json={"model": "two", "input": "a"})
    assert answer.status_code == 404
    own = acme.http.post("/t/acme/v1/embeddings", json={"model": "zero", "input": "a"})
    assert own.status_code == 200


@pytest.mark.parametrize("base", ["", "/v1", "/t/acme/v1"])
def test_tokens_and_back(acme: Tenant, model: Path, base: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)

    def post(path: str, **body: object) -> dict[str, object]:
        answer = acme.http.post(base + path, json={"model": "zero", **body})
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    text = TEXTS[1]
    for special in (True, False):
        ids = tokenizer(text, add_special_tokens=special)["input_ids"]
        told = post("/tokenize", prompt=text, add_special_tokens=special, return_token_strs=True)
        assert (told["tokens"], told["count"], told["max_model_len"]) == (ids, len(ids), 16384)
        assert told["token_strs"] == tokenizer.convert_ids_to_tokens(ids)
    assert post("/tokenize", prompt=text)["token_strs"] is None
    assert post("/detokenize", tokens=ids) == {"prompt": text}
    messages = [{"role": "user", "content": "Hi"}]
    chat = post("/tokenize", messages=messages)["tokens"]
    usage = acme.chat(model="zero", messages=messages, max_tokens=1).json()["usage"]
    assert isinstance(chat, list)
    assert len(chat) == usage["prompt_tokens"]
    rest = post("/tokenize", messages=messages, add_generation_prompt=False)["tokens"]
    assert isinstance(rest, list)
    assert chat[: len(rest)] == rest != chat


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": [{"role": "user", "content": "a"}]}, "messages"),
        ("/tokenize", {"prompt": "a" * 1_000_001}, "prompt"),
        ("/tokenize", {"prompt": "a", "add_generation_prompt": True}, "add_generation_prompt"),
        ("/tokenize", {"prompt": "a", "padding": True}, "padding"),
        ("/detokenize", {}, "tokens"),
        ("/detokenize", {"tokens": [999_999]}, "tokens"),
        ("/detokenize", {"tokens": [0] * 250_001}, "tokens"),
    ],
)
def test_what_cannot_be_tokenized_is_refused_by_name(
    acme: Tenant, path: str, body: dict[str, object], param: str
) -> None:
    answer = acme.http.post(path, json={"model": "zero", **body})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param), answer.text


def test_tokenizing_needs_a_key_and_a_model_of_its_tenant(acme: Tenant, server: Serve) -> None:
    body = {"model": "two", "prompt": "a"}
    assert acme.http.post("/tokenize", json=body).json()["error"]["code"] == "model_not_found"
    assert httpx.post(f"{acme.url}/tokenize", json=body).status_code == 401
    assert server.operator.post("/tokenize", json=body).status_code == 403


def test_models_tell_their_lineage_and_context(acme: Tenant) -> None:
    models = {model["id"]: model for model in acme.http.get("/v1/models").json()["data"]}
    base, own = models["org/tiny"], models["one@canary"]
    assert (base["root"], base["parent"], base["owned_by"]) == ("org/tiny", None, "loraplex")
    assert (own["root"], own["parent"], own["owned_by"]) == ("org/tiny", "org/tiny", "acme")
    version = acme.http.get("/v1/models/one@1").json()
    assert version["parent"] == "org/tiny"
    assert {m["max_model_len"] for m in [*models.values(), version]} == {16384}
    assert acme.http.delete("/v1/models/one").status_code == 405
