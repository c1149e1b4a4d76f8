"""Owns what is said of errors, headers and streams, which no client's types tell."""

import json
import re
from collections.abc import Callable
from typing import NamedTuple

import httpx

from conformance.chat import MINIMAL as CHAT
from conformance.completions import MINIMAL

Check = Callable[[httpx.Client], None]


class Rule(NamedTuple):
    """What is promised of all routes.

    Attributes:
        shown_by: the test that shows it, if it takes more than this service.
    """

    name: str
    note: str
    check: Check | None = None
    shown_by: str = ""


def error_body(http: httpx.Client) -> None:
    cases = (
        (http.post("/v1/completions", content=b"{"), 400, "invalid_request_error", "invalid_json"),
        (
            http.post("/v1/completions", json={"model": "x"}),
            404,
            "invalid_request_error",
            "model_not_found",
        ),
        (http.get("/v1/nothing"), 404, "invalid_request_error", "not_found"),
        (http.put("/v1/completions"), 405, "invalid_request_error", "method_not_allowed"),
    )
    for answer, status, kind, code in cases:
        assert answer.status_code == status
        error = answer.json()["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["code"]) == (kind, code)
        assert error["message"].endswith(".")


def bad_key(http: httpx.Client) -> None:
    answer = http.get("/v1/models", headers={"authorization": "Bearer nobody"})
    error = answer.json()["error"]
    assert answer.status_code == 401
    assert (error["type"], error["code"]) == ("authentication_error", "invalid_api_key")
    assert answer.headers["www-authenticate"] == "Bearer"


def conflict(http: httpx.Client) -> None:
    new = {"filename": "a", "purpose": "batch", "bytes": 1, "mime_type": "text/plain"}
    upload = http.post("/v1/uploads", json=new).json()["id"]
    for status in (200, 409):
        answer = http.post(f"/v1/uploads/{upload}/cancel")
        assert answer.status_code == status
    assert answer.headers["x-should-retry"] == "false"
    assert answer.json()["error"]["code"] == "upload_ended"


def request_id(http: httpx.Client) -> None:
    answers = [http.get("/v1/models"), http.get("/v1/nothing"), http.post("/v1/completions")]
    ids = {answer.headers["x-request-id"] for answer in answers}
    assert len(ids) == 3
    own = http.get("/v1/models", headers={"x-request-id": "mine-1"})
    assert own.headers["x-request-id"] == "mine-1"


def processing(http: httpx.Client) -> None:
    answer = http.post("/v1/completions", json=MINIMAL)
    assert (
        0
        <= int(answer.headers["openai-processing-ms"])
        <= answer.elapsed.total_seconds() * 1000 + 1
    )


def frames(http: httpx.Client) -> None:
    for path, body in (("/v1/completions", MINIMAL), ("/v1/chat/completions", CHAT)):
        answer = http.post(path, json={**body, "stream": True})
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.text.endswith("data: [DONE]\n\n")
        for frame in answer.text.removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]:
            assert frame.startswith(":") or isinstance(
                json.loads(frame.removeprefix("data: ")), dict
            )


def events(http: httpx.Client) -> None:
    body = {"model": "base", "input": "Hi", "max_output_tokens": 16, "stream": True}
    answer = http.post("/v1/responses", json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert re.fullmatch(r"((event: [a-z._]+\n)?(data: \{.*\}|:.*)\n\n)+", answer.text)
    assert "[DONE]" not in answer.text


RULES = (
    Rule(
        "error bodies",
        "`error` with `message`, `type`, `param` and `code`, also of 404 and 405",
        error_body,
    ),
    Rule("401", "`invalid_api_key`, `www-authenticate`", bad_key),
    Rule("409", "`x-should-retry: false`", conflict),
    Rule("`x-request-id`", "on every answer; the client's own is kept", request_id),
    Rule("`openai-processing-ms`", "on answers of models", processing),
    Rule("streams", "`data: ` frames, then `data: [DONE]`; comments while nothing comes", frames),
    Rule("streams of responses", "`event: ` and `data: `, no `[DONE]`", events),
)
ABSENT = (
    ("DELETE", "/v1/models/tuned", ": adapters are deleted by the management plane"),
    ("GET", "/v1/chat/completions", ": chats are not stored"),
    ("GET", "/v1/chat/completions/x", ""),
    ("POST", "/v1/chat/completions/x", ""),
    ("DELETE", "/v1/chat/completions/x", ""),
    ("GET", "/v1/chat/completions/x/messages", ""),
    ("POST", "/v1/responses/compact", ""),
)
