"""Owns what is said of /v1/batches."""

import json
import time

import httpx
from openai.types import Batch, BatchCreateParams, BatchListParams

from conformance.files import BAD, HOUR, WRONG
from conformance.files import CREATE as FILES
from conformance.judged import Ask, Json, Refusal, Reply, Route, at, no, partly, supported
from support.patience import PATIENCE_SECONDS

MISSING = "missing_required_parameter"
BODIES: dict[str, Json] = {
    "/v1/completions": {"prompt": "Once upon", "max_tokens": 2},
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": "Hi"}],
        "max_completion_tokens": 2,
    },
    "/v1/embeddings": {"input": "Once upon"},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 16, "store": False},
}
CHAT = "/v1/chat/completions"


def lines(http: httpx.Client, url: str, *bodies: Json, purpose: str = "batch") -> str:
    """The id of a file of requests."""
    told = [
        {"custom_id": f"r{i}", "method": "POST", "url": url, "body": {"model": "base", **body}}
        for i, body in enumerate(bodies)
    ]
    content = "\n".join(map(json.dumps, told)).encode()
    return str(FILES.ask(http)(file=("in.jsonl", content), purpose=purpose)["id"])


def of_file(http: httpx.Client) -> Ask:
    """A batch of one request."""
    file = lines(http, CHAT, BODIES[CHAT])
    new = {"input_file_id": file, "endpoint": CHAT, "completion_window": "24h"}
    return Ask(http, "/v1/batches", new)


def ended(ask: Ask, batch: Json) -> Json:
    """The batch when it has ended."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while batch["status"] not in ("completed", "failed", "cancelled"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.05)
        batch = ask.http.get(f"/v1/batches/{batch['id']}").json()
    return batch


def output(ask: Ask, file: str) -> list[Json]:
    content = ask.http.get(f"/v1/files/{file}/content").text
    return [json.loads(line) for line in content.splitlines()]


def endpoint(ask: Ask) -> None:
    """Each is asked for the same as by itself."""
    batches = {
        url: ask(endpoint=url, input_file_id=lines(ask.http, url, body))
        for url, body in BODIES.items()
    }
    for url, batch in batches.items():
        (line,) = output(ask, ended(ask, batch)["output_file_id"])
        alone = ask.http.post(url, json={"model": "base", **BODIES[url]}).json()
        assert line["response"]["body"].keys() == alone.keys()
        assert line["response"]["body"]["object"] == alone["object"]


def input_file(ask: Ask) -> None:
    file = lines(ask.http, CHAT, *[BODIES[CHAT]] * 3)
    batch = ended(ask, ask(input_file_id=file))
    assert (batch["input_file_id"], batch["status"]) == (file, "completed")
    assert batch["request_counts"] == {"total": 3, "completed": 3, "failed": 0}
    assert {line["custom_id"] for line in output(ask, batch["output_file_id"])} == {
        "r0",
        "r1",
        "r2",
    }


def window(ask: Ask) -> None:
    batch = ask()
    assert batch["completion_window"] == "24h"
    assert batch["expires_at"] == batch["created_at"] + 24 * 3600


def metadata(ask: Ask) -> None:
    assert ask(metadata={"a": "b"})["metadata"] == {"a": "b"}
    assert ask()["metadata"] is None


def expiry(ask: Ask) -> None:
    batch = ended(ask, ask(output_expires_after=HOUR))
    file = ask.http.get(f"/v1/files/{batch['output_file_id']}").json()
    assert file["expires_at"] == file["created_at"] + 3600


def answers(ask: Ask) -> list[Json]:
    file = lines(ask.http, CHAT, BODIES[CHAT], {**BODIES[CHAT], "n": 0})
    batch = ask(input_file_id=file, metadata={"a": "b"})
    assert (batch["object"], batch["endpoint"]) == ("batch", CHAT)
    assert batch["id"].startswith("batch_")
    whole = ended(ask, batch)
    assert (whole["status"], whole["model"]) == ("completed", "base")
    (good,), (bad,) = (output(ask, whole[f"{kind}_file_id"]) for kind in ("output", "error"))
    assert (good["custom_id"], good["response"]["status_code"]) == ("r0", 200)
    assert (bad["custom_id"], bad["response"]["status_code"]) == ("r1", 400)
    usage = good["response"]["body"]["usage"]
    assert whole["usage"]["input_tokens"] == usage["prompt_tokens"]
    assert whole["usage"]["output_tokens"] == usage["completion_tokens"] == 2
    broken = ended(ask, ask(input_file_id=lines(ask.http, "/v1/other", {})))
    (fault,) = broken["errors"]["data"]
    assert (broken["status"], fault["code"], fault["line"]) == ("failed", "invalid_url", 1)
    late = ask(input_file_id=lines(ask.http, CHAT, *[{**BODIES[CHAT], "n": 128}] * 40))
    cancelled = ended(ask, ask.http.post(f"/v1/batches/{late['id']}/cancel").json())
    assert cancelled["status"] == "cancelled"
    return [whole, broken, cancelled]


def names(ask: Ask, **query: Json) -> list[str]:
    return [batch["id"] for batch in ask(**query)["data"]]


def limit(ask: Ask) -> None:
    made = [of_file(ask.http)()["id"] for _ in range(2)]
    assert names(ask, limit=2) == made[::-1]
    assert ask(limit=1)["has_more"] is True


def after(ask: Ask) -> None:
    made = [of_file(ask.http)()["id"] for _ in range(2)]
    assert names(ask, after=made[1])[0] == made[0]


CREATE = Route(
    "Batches: create",
    "POST /v1/batches",
    BatchCreateParams,
    of_file,
    (
        partly(
            "endpoint",
            ", ".join(f"`{url}`" for url in BODIES),
            endpoint,
            no(MISSING, endpoint=...),
            no(BAD, endpoint="/v1/moderations"),
        ),
        supported(
            "input_file_id",
            input_file,
            no(MISSING, input_file_id=...),
            Refusal({"input_file_id": "file-x"}, "not_found", status=404),
        ),
        supported(
            "completion_window",
            window,
            no(MISSING, completion_window=...),
            no(BAD, completion_window="1h"),
        ),
        supported(
            "metadata",
            metadata,
            no(BAD, metadata={str(i): "" for i in range(17)}),
            no(BAD, metadata={"a": 1}, at="metadata[...]"),
        ),
        supported("output_expires_after", expiry, no(BAD, output_expires_after=1)),
        supported(
            "output_expires_after.anchor",
            expiry,
            no(BAD, output_expires_after={**HOUR, "anchor": "x"}),
        ),
        supported(
            "output_expires_after.seconds",
            expiry,
            no(BAD, output_expires_after={**HOUR, "seconds": 3599}),
        ),
    ),
    (
        Reply(
            "",
            Batch,
            answers,
            (
                "id",
                "object",
                "endpoint",
                "input_file_id",
                "completion_window",
                "status",
                "model",
                "metadata",
                "errors",
                "errors.object",
                "errors.data",
                "errors.data[].code",
                "errors.data[].message",
                "errors.data[].param",
                "errors.data[].line",
                "output_file_id",
                "error_file_id",
                "created_at",
                "in_progress_at",
                "expires_at",
                "finalizing_at",
                "completed_at",
                "failed_at",
                "cancelling_at",
                "cancelled_at",
                "request_counts",
                "request_counts.total",
                "request_counts.completed",
                "request_counts.failed",
                "usage",
                "usage.input_tokens",
                "usage.input_tokens_details",
                "usage.input_tokens_details.cached_tokens",
                "usage.output_tokens",
                "usage.output_tokens_details",
                "usage.output_tokens_details.reasoning_tokens",
                "usage.total_tokens",
            ),
            elsewhere={
                "expired_at": "tests/platform/batches/test_batches.py::"
                "test_a_batch_that_is_stopped_keeps_what_it_has"
            },
        ),
    ),
)
LIST = Route(
    "Batches: list",
    "GET /v1/batches",
    BatchListParams,
    at("/v1/batches", {}, "query"),
    (
        supported("after", after, no(BAD, after="x")),
        supported("limit", limit, no(WRONG, limit=0), no(WRONG, limit=101), note="1 to 100"),
    ),
    strict=False,
)
ROUTES = (CREATE, LIST)
