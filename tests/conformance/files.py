"""Owns what is said of /v1/files."""

import json

from openai.types import FileCreateParams, FileDeleted, FileListParams, FileObject

from conformance.judged import Ask, Json, Reply, Route, at, no, supported

DATA = b'{"a": 1}\n'
BAD, WRONG = "invalid_value", "invalid_request"  # the latter of forms and of what is in the URL
HOUR = {"anchor": "created_at", "seconds": 3600}
PURPOSES = ("assistants", "batch", "fine-tune", "vision", "user_data", "evals")


def file(ask: Ask) -> None:
    made = ask(file=("b.jsonl", DATA * 2))
    assert (made["filename"], made["bytes"]) == ("b.jsonl", 2 * len(DATA))
    content = ask.http.get(f"/v1/files/{made['id']}/content")
    assert (content.status_code, content.content) == (200, DATA * 2)


def purpose(ask: Ask) -> None:
    assert [ask(purpose=each)["purpose"] for each in PURPOSES] == list(PURPOSES)


def expires_after(ask: Ask) -> None:
    made = ask(expires_after=HOUR)
    assert made["expires_at"] == made["created_at"] + 3600
    assert ask()["expires_at"] is None


def answers(ask: Ask) -> list[Json]:
    made = ask(expires_after=HOUR)
    assert made["id"].startswith("file-")
    told = {"object": "file", "filename": "a.jsonl", "bytes": len(DATA), "purpose": "user_data"}
    assert told.items() <= made.items()
    assert made["status"] == "processed"
    assert ask.http.get(f"/v1/files/{made['id']}").json() == made
    return [made]


def deleted(ask: Ask) -> list[Json]:
    name = ask()["id"]
    answer = ask.http.delete(f"/v1/files/{name}").json()
    assert answer == {"id": name, "object": "file", "deleted": True}
    error = ask.http.get(f"/v1/files/{name}")
    assert (error.status_code, error.json()["error"]["code"]) == (404, "not_found")
    return [answer]


def made(ask: Ask, count: int) -> list[str]:
    """So many files of a purpose that no other test has, the newest first."""
    for each in ask.http.get("/v1/files", params={"purpose": "evals"}).json()["data"]:
        ask.http.delete(f"/v1/files/{each['id']}")
    create = CREATE.ask(ask.http)
    return [create(purpose="evals")["id"] for _ in range(count)][::-1]


def listed(ask: Ask, **query: Json) -> list[str]:
    return [each["id"] for each in ask(purpose="evals", **query)["data"]]


def limit(ask: Ask) -> None:
    names = made(ask, 3)
    assert listed(ask, limit=2) == names[:2]
    assert ask(purpose="evals", limit=2)["has_more"] is True
    assert ask(purpose="evals", limit=3)["has_more"] is False


def order(ask: Ask) -> None:
    names = made(ask, 3)
    assert (listed(ask, order="asc"), listed(ask, order="desc")) == (names[::-1], names)


def after(ask: Ask) -> None:
    names = made(ask, 3)
    assert listed(ask, after=names[0]) == names[1:]
    assert listed(ask, after=names[1], order="asc") == names[:1]


def of_purpose(ask: Ask) -> None:
    names = made(ask, 1)
    assert listed(ask) == names
    assert names[0] not in json.dumps(ask(purpose="vision"))
    assert names[0] in json.dumps(ask())


CREATE = Route(
    "Files: create",
    "POST /v1/files",
    FileCreateParams,
    at("/v1/files", {"file": ("a.jsonl", DATA), "purpose": "user_data"}, "parts"),
    (
        supported(
            "file",
            file,
            no(WRONG, file=...),
            no(BAD, file=("a.jsonl", b"")),
            note="up to 512 MiB",
        ),
        supported(
            "purpose",
            purpose,
            no(WRONG, purpose=...),
            no(BAD, purpose="x"),
        ),
        supported("expires_after", expires_after),
        supported(
            "expires_after.anchor",
            expires_after,
            no(BAD, expires_after={**HOUR, "anchor": "x"}, at="expires_after"),
            no(BAD, expires_after={"seconds": 3600}, at="expires_after"),
        ),
        supported(
            "expires_after.seconds",
            expires_after,
            no(BAD, expires_after={**HOUR, "seconds": 3599}, at="expires_after"),
            no(BAD, expires_after={**HOUR, "seconds": 2592001}, at="expires_after"),
            note="an hour to 30 days",
        ),
    ),
    (
        Reply(
            "",
            FileObject,
            answers,
            (
                "id",
                "object",
                "bytes",
                "created_at",
                "expires_at",
                "filename",
                "purpose",
                "status",
            ),
            null=("status_details",),
        ),
        Reply("deleted", FileDeleted, deleted, ("id", "object", "deleted")),
    ),
    strict=False,
)
LIST = Route(
    "Files: list",
    "GET /v1/files",
    FileListParams,
    at("/v1/files", {}, "query"),
    (
        supported("after", after, no(BAD, after="x")),
        supported("limit", limit, no(WRONG, limit=0), no(WRONG, limit=10_001), note="1 to 10000"),
        supported("order", order, no(WRONG, order="x")),
        supported("purpose", of_purpose),
    ),
    strict=False,
)
ROUTES = (CREATE, LIST)
