"""Owns what is said of /v1/uploads."""

import hashlib

import httpx
from openai.types import Upload, UploadCompleteParams, UploadCreateParams
from openai.types.uploads import PartCreateParams, UploadPart

from conformance.files import BAD, DATA, HOUR, PURPOSES
from conformance.judged import Ask, Json, Refusal, Reply, Route, at, ignored, no, supported

MISSING = "missing_required_parameter"
NEW = {
    "filename": "a.jsonl",
    "purpose": "user_data",
    "bytes": 2 * len(DATA),
    "mime_type": "application/jsonl",
}


def opened(http: httpx.Client, **fields: Json) -> str:
    """The path of an upload that waits for parts."""
    return f"/v1/uploads/{CREATE.ask(http)(**fields)['id']}"


def sent(http: httpx.Client, upload: str, data: bytes = DATA) -> str:
    """The id of a part."""
    return str(Ask(http, f"{upload}/parts", {"data": ("data", data)}, "parts")()["id"])


def of_upload(http: httpx.Client) -> Ask:
    """Completes an upload of two parts."""
    upload = opened(http)
    parts = [sent(http, upload), sent(http, upload)]
    return Ask(http, f"{upload}/complete", {"part_ids": parts})


def completed(http: httpx.Client, *data: bytes, **fields: Json) -> Json:
    """The file of an upload of these parts."""
    upload = opened(http, bytes=len(b"".join(data)), **fields)
    parts = [sent(http, upload, each) for each in data]
    return Ask(http, f"{upload}/complete", {"part_ids": parts})()["file"]


def filename(ask: Ask) -> None:
    assert completed(ask.http, DATA, filename="b.jsonl")["filename"] == "b.jsonl"


def purpose(ask: Ask) -> None:
    assert [ask(purpose=each)["purpose"] for each in PURPOSES[:5]] == list(PURPOSES[:5])
    assert completed(ask.http, DATA, purpose="vision")["purpose"] == "vision"


def size(ask: Ask) -> None:
    upload = opened(ask.http, bytes=len(DATA) + 1)
    refusal = Ask(ask.http, f"{upload}/complete", {"part_ids": [sent(ask.http, upload)]}).raw()
    assert (refusal.status_code, refusal.json()["error"]["code"]) == (400, "wrong_size")
    assert completed(ask.http, DATA, DATA)["bytes"] == 2 * len(DATA)


def mime_type(ask: Ask) -> None:
    plain, other = completed(ask.http, DATA), completed(ask.http, DATA, mime_type="text/csv")
    assert plain.keys() == other.keys()


def expires_after(ask: Ask) -> None:
    file = completed(ask.http, DATA, expires_after=HOUR)
    assert file["expires_at"] == file["created_at"] + 3600


def data(ask: Ask) -> None:
    first, second = DATA, DATA[::-1]
    file = completed(ask.http, first, second)
    assert ask.http.get(f"/v1/files/{file['id']}/content").content == first + second


def part_ids(ask: Ask) -> None:
    upload = opened(ask.http)
    late, early = sent(ask.http, upload, DATA[::-1]), sent(ask.http, upload)
    file = Ask(ask.http, f"{upload}/complete", {"part_ids": [early, late]})()["file"]
    assert ask.http.get(f"/v1/files/{file['id']}/content").content == DATA + DATA[::-1]


def md5(ask: Ask) -> None:
    assert ask(md5=hashlib.md5(DATA * 2).hexdigest())["status"] == "completed"


def answers(ask: Ask) -> list[Json]:
    pending = ask()
    assert pending["id"].startswith("upload_")
    assert {**NEW, "object": "upload", "status": "pending", "file": None}.items() - {
        ("mime_type", NEW["mime_type"])
    } <= pending.items()
    assert pending["expires_at"] == pending["created_at"] + 3600
    whole = of_upload(ask.http)()
    assert (whole["status"], whole["file"]["object"]) == ("completed", "file")
    assert ask.http.get(f"/v1/files/{whole['file']['id']}").json() == whole["file"]
    cancelled = ask.http.post(f"{opened(ask.http)}/cancel").json()
    assert (cancelled["status"], cancelled["file"]) == ("cancelled", None)
    return [pending, whole, cancelled]


def part_answers(ask: Ask) -> list[Json]:
    part = ask()
    assert part["id"].startswith("part_")
    assert part["object"] == "upload.part"
    assert part["upload_id"] in ask.path
    return [part]


CREATE = Route(
    "Uploads: create",
    "POST /v1/uploads",
    UploadCreateParams,
    at("/v1/uploads", NEW),
    (
        supported("filename", filename, no(MISSING, filename=...), no(BAD, filename="")),
        supported("purpose", purpose, no(MISSING, purpose=...), no(BAD, purpose="x")),
        supported(
            "bytes",
            size,
            no(MISSING, bytes=...),
            no(BAD, bytes=0),
            no(BAD, bytes=8 * 2**30 + 1),
            note="up to 8 GiB",
        ),
        ignored(
            "mime_type",
            "files have none",
            mime_type,
            no(MISSING, mime_type=...),
            no(BAD, mime_type=""),
        ),
        supported("expires_after", expires_after, no(BAD, expires_after=1)),
        supported(
            "expires_after.anchor", expires_after, no(BAD, expires_after={**HOUR, "anchor": "x"})
        ),
        supported(
            "expires_after.seconds",
            expires_after,
            no(BAD, expires_after={**HOUR, "seconds": 3599}),
            note="an hour to 30 days",
        ),
    ),
    (
        Reply(
            "",
            Upload,
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
                "file",
            ),
            inside={"file": "Files: create"},
        ),
    ),
)
PARTS = Route(
    "Uploads: parts",
    "POST /v1/uploads/{id}/parts",
    PartCreateParams,
    lambda http: Ask(http, f"{opened(http)}/parts", {"data": ("data", DATA)}, "parts"),
    (
        supported(
            "data",
            data,
            no(BAD, data=("data", b"")),
            note="up to 64 MiB",
        ),
    ),
    (Reply("", UploadPart, part_answers, ("id", "object", "created_at", "upload_id")),),
    strict=False,
)
COMPLETE = Route(
    "Uploads: complete",
    "POST /v1/uploads/{id}/complete",
    UploadCompleteParams,
    of_upload,
    (
        supported(
            "part_ids",
            part_ids,
            no(MISSING, part_ids=...),
            no(BAD, part_ids=[]),
            Refusal({"part_ids": ["part_x"]}, "not_found", status=404),
        ),
        supported("md5", md5, no("digest_mismatch", md5="0" * 32)),
    ),
)
ROUTES = (CREATE, PARTS, COMPLETE)
