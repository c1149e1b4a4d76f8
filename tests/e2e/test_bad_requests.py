"""Every wrong request gets its exact OpenAI body, and none of them troubles the server."""

from typing import Any

import httpx
import pytest

from support.serve import Serve, Tenant

pytestmark = pytest.mark.e2e

Body = dict[str, Any]  # JSON

BASE = "org/tiny"

# For each code: fields beside the model, and the message; its first word is the `param`, or what is in front of " > ".
COMPLETIONS: dict[str, list[tuple[Body, str]]] = {
    "unknown_parameter": [
        ({"foo": 1}, "foo is not a field of this request; remove it."),
        (
            {"stream_options": {"x": 1}},
            "stream_options.x is not a field of this request; remove it.",
        ),
    ],
    "invalid_value": [
        ({"temperature": "hot"}, "temperature: expected `float | null`, got `str`."),
        ({"temperature": 2.5}, "temperature must lie between 0 and 2."),
        ({"top_p": 0}, "top_p must be above 0."),
        ({"min_p": 1.5}, "min_p must lie between 0 and 1."),
        ({"top_k": -2}, "top_k must be a positive count, or 0 (or -1) for all tokens."),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0 and below 100."),
        ({"presence_penalty": -3}, "presence_penalty must lie between -2 and 2."),
        ({"frequency_penalty": 3}, "frequency_penalty must lie between -2 and 2."),
        ({"n": 0}, "n: expected `int` >= 1."),
        ({"n": 129}, "n: expected `int` <= 128."),
        ({"n": True}, "n: expected `int | null`, got `bool`."),
        ({"logprobs": 6}, "logprobs: expected `int` <= 5."),
        ({"max_tokens": -1}, "max_tokens must not be negative."),
        ({"max_tokens": 10**30}, "max_tokens: expected `int` <= 2147483647."),
        ({"max_tokens": 4, "min_tokens": 5}, "min_tokens must not exceed max_tokens."),
        ({"prompt": []}, "prompt: an empty list is no prompt."),
        ({"prompt": [[]]}, "prompt: an empty list is no prompt."),
        (
            {"prompt": ["a", 1]},
            "prompt: a list holds either texts, or token ids, or lists of token ids, not a mixture.",
        ),
        ({"prompt": 5}, "prompt: expected `str | array | null`, got `int`."),
        ({"prompt": [-1]}, "prompt[0]: expected `int` >= 0."),
        ({"seed": 2**63}, "seed: expected `int` <= 9223372036854775807."),
        ({"stop": [""]}, "stop must not contain an empty string."),
        ({"stop": ["a"] * 17}, "stop takes at most 16 strings."),
        ({"logit_bias": {"foo": 1}}, "logit_bias: 'foo' is not a token id."),
        ({"logit_bias": {"1": 101}}, "logit_bias must lie between -100 and 100."),
        ({"priority": -1}, "priority: expected `int` >= 0."),
    ],
    "unsupported_value": [
        ({"n": 3, "best_of": 2}, "best_of must be at least n (3)."),
        ({"best_of": 21}, "best_of must be at most 20."),
        (
            {"best_of": 2, "stream": True},
            "best_of above n cannot be streamed: which is best is known at the end.",
        ),
        (
            {"suffix": "x"},
            "suffix: this model has no tokens for filling in the middle; leave suffix out.",
        ),
        ({"suffix": "x", "echo": True}, "echo cannot be used with suffix; send one of them."),
    ],
    "invalid_request": [
        ({"stop_token_ids": [999]}, "stop_token_ids names a token id outside 0 to 259."),
        ({"logit_bias": {"999": 1}}, "logit_bias names a token id outside 0 to 259."),
        ({"prompt": [260]}, "prompt > The prompt holds a token id outside 0 to 259."),
        (
            {"prompt": ["a"] * 1025},
            "prompt > 1025 prompts with 1 answers each are more than 1024; send several requests.",
        ),
    ],
    "context_length_exceeded": [
        (
            {"max_tokens": 20000},
            "max_tokens > This model's context length is 16384 tokens; "
            "the request asks for 3 in the prompt and 20000 in the output.",
        ),
        (
            {"prompt": "x" * 20000},
            "prompt > This model's context length is 16384 tokens; the prompt alone has 20001.",
        ),
    ],
}


def user(content: object) -> Body:
    return {"messages": [{"role": "user", "content": content}]}


def json_schema(schema: Body) -> Body:
    return {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}


CHATS: dict[str, list[tuple[Body, str]]] = {
    "invalid_value": [
        ({"messages": []}, "messages: expected `array` of length >= 1."),
        ({"messages": None}, "messages: expected `array`, got `null`."),
        (
            {"messages": [{"role": "robot", "content": "x"}]},
            "messages[0].role: invalid enum value 'robot'.",
        ),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs: expected `int` <= 20."),
        ({"max_completion_tokens": 0}, "max_completion_tokens must be at least 1."),
        (
            {"response_format": json_schema({"properties": {"a": {"not": {}}}})},
            "response_format.json_schema.schema: properties.a.not: this keyword is not supported; leave it out.",
        ),
        (
            {"structured_outputs": {"regex": "a", "choice": ["b"]}},
            "structured_outputs takes exactly one of json, json_object, regex, choice and grammar.",
        ),
        (
            {"structured_outputs": {"regex": "(?=a)"}},
            "structured_outputs.regex: the pattern's '=' at position 2 is not supported behind (?.",
        ),
        (
            {
                "structured_outputs": {"json_object": True},
                "response_format": {"type": "json_object"},
            },
            "structured_outputs cannot be used with response_format; send one of them.",
        ),
    ],
    "unsupported_value": [
        ({"messages": [{"role": "user"}]}, "messages[0].content is missing."),
        (user([]), "messages[0].content has no parts."),
        (
            user([{"type": "image_url", "image_url": {"url": "x"}}]),
            "messages[0].content[0].type 'image_url' is not supported; send text.",
        ),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id is missing."),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            "tools: this model's chat template has no place for functions; leave tools out.",
        ),
        (
            {"response_format": {"type": "xml"}},
            "response_format.type 'xml' is not supported; send 'text', 'json_object' or 'json_schema'.",
        ),
        (
            {"modalities": ["text", "audio"]},
            "modalities 'audio' is not supported; send 'text', or leave it out.",
        ),
        ({"store": True}, "store is not supported yet; leave it out."),
        (
            {"reasoning_effort": "high"},
            "reasoning_effort 'high' is not supported by this model: it does not reason; leave it out.",
        ),
        ({"top_logprobs": 3}, "top_logprobs needs logprobs to be true."),
        (
            {"metadata": {"k": "v" * 513}},
            "metadata keys have at most 64 characters, values at most 512.",
        ),
    ],
    "context_length_exceeded": [
        (
            user("x" * 20000),
            "messages > This model's context length is 16384 tokens; the prompt alone has 20020.",
        ),
    ],
}

ROWS = [
    (route, fields, code, message)
    for route, table in (("completions", COMPLETIONS), ("chat/completions", CHATS))
    for code, rows in table.items()
    for fields, message in rows
]


@pytest.mark.parametrize(("route", "fields", "code", "message"), ROWS)
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_field_is_named(
    acme: Tenant, route: str, fields: Body, code: str, message: str, stream: bool
) -> None:
    valid: Body = {"prompt": "Hi"} if route == "completions" else user("Hi")
    answer = acme.http.post(
        f"/v1/{route}", json={"model": BASE, **valid, "stream": stream, **fields}
    )
    assert answer.status_code == 400
    param, arrow, rest = message.partition(" > ")
    param, message = (param, rest) if arrow else (message.split()[0].rstrip(":"), message)
    assert answer.json() == {
        "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is not valid JSON: Input data was truncated."),
        (b"{", "The body is not valid JSON: Input data was truncated."),
        (b"nonsense", "The body is not valid JSON: JSON is malformed: invalid character (byte 4)."),
        (b"[]", "The body is wrong: expected `object`, got `array`."),
        (b'{"model": "org/tiny", "tools": [' + b"[" * 100_000, None),
        (b"[" * 100_000, "The body is wrong: expected `object`, got `array`."),
        (b'{"model": "org/tiny", "prompt": ' + b"[" * 100_000, None),
        (b'{"model": "\xff"}', None),
        (b'{"prompt": "Hi"}', "model is missing."),
    ],
)
def test_a_body_that_is_no_request(acme: Tenant, body: bytes, message: str | None) -> None:
    answer = acme.http.post("/v1/completions", content=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    if message is not None:
        assert error["message"] == message


def test_a_body_above_the_limit_is_413(acme: Tenant) -> None:
    answer = acme.complete(prompt="x" * (9 * 1024 * 1024))
    assert answer.status_code == 413
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    "unknown",
    ["", "nobody", "zero@", "zero@nope", "zero@99", "@", "a/b", "zero@1@2", "x" * 5000, "\x00"],
)
def test_an_unknown_model_is_404(acme: Tenant, unknown: str) -> None:
    answer = acme.complete(model=unknown, prompt="Hi")
    assert answer.status_code == 404
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == (
        "invalid_request_error",
        "model",
        "model_not_found",
    )


def test_unknown_routes_and_methods(acme: Tenant) -> None:
    for method, path, status in (("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405)):
        answer = acme.http.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("key", "code"),
    [
        (None, "missing_api_key"),
        ("", "missing_api_key"),
        ("Basic abc", "missing_api_key"),
        ("Bearer nonsense", "invalid_api_key"),
        ("Bearer lpx_live_aaaaaaaaaaaa_b_c", "invalid_api_key"),
    ],
)
def test_no_good_key_is_401(server: Serve, key: str | None, code: str) -> None:
    headers = {"authorization": key} if key is not None else {}
    answer = httpx.post(
        f"{server.url}/v1/completions", content=b"{", headers=headers, trust_env=False
    )
    assert answer.status_code == 401
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("authentication_error", None, code)


def test_the_engine_has_seen_none_of_it(server: Serve, acme: Tenant) -> None:
    """Runs last in this file: the engine is the same one, and works."""
    assert acme.complete(prompt="Hi", max_tokens=1).status_code == 200
    assert "starting it again" not in server.output()
    server.wait(server.is_idle, 10)
