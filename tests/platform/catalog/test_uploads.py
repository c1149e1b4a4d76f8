"""Resumable uploads: parts of any size, broken connections, refusals, and what stays behind."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from uuid import UUID

import httpx
import pytest
from sqlalchemy import insert, select, update

from loraplex.platform.catalog.weights import Weights
from loraplex.platform.db.base import utc_now
from loraplex.platform.db.models import Blob, BlobChunk, Upload
from loraplex.platform.db.scope import EVERY_TENANT
from support.services import Api, adapter_files, bearer, with_config


async def open_upload(
    api: Api, key: str, files: dict[str, bytes], **changes: object
) -> httpx.Response:
    body = {
        "name": "a",
        "size": len(files["weights"]),
        "sha256": hashlib.sha256(files["weights"]).hexdigest(),
        "config": files["config"].decode(),
        **changes,
    }
    return await api.client.post("/api/v1/uploads", json=body, headers=bearer(key))


async def send(
    api: Api, key: str, upload: str, data: bytes, first: int = 0, size: int | str = "*"
) -> httpx.Response:
    headers = bearer(key)
    if data:
        headers["content-range"] = f"bytes {first}-{first + len(data) - 1}/{size}"
    return await api.client.put(f"/api/v1/uploads/{upload}", content=data, headers=headers)


async def complete(api: Api, key: str, upload: str) -> httpx.Response:
    return await api.client.post(f"/api/v1/uploads/{upload}/complete", headers=bearer(key))


def large_enough(files: dict[str, bytes]) -> dict[str, bytes]:
    """The adapter with its header padded by spaces, so that it spans several chunk rows."""
    length = int.from_bytes(files["weights"][:8], "little")
    header = files["weights"][8 : 8 + length] + b" " * 1_500_000
    data = len(header).to_bytes(8, "little") + header + files["weights"][8 + length :]
    return {**files, "weights": data}


@pytest.fixture
def files(adapter_dir: Path) -> dict[str, bytes]:
    return large_enough(adapter_files(adapter_dir))


async def test_parts_of_odd_sizes_become_a_version(api: Api, files: dict[str, bytes]) -> None:
    key = await api.tenant("acme")
    opened = await open_upload(api, key, files, alias="prod")
    assert opened.status_code == 201, opened.text
    upload, weights = opened.json()["id"], files["weights"]
    position = 0
    for step in (7, 1, 1024 * 1024, 100_003, len(weights)):
        part = weights[position : position + step]
        answer = await send(api, key, upload, part, position, len(weights))
        assert answer.status_code == 200, answer.text
        position += len(part)
        assert answer.json()["received"] == position
    done = await complete(api, key, upload)
    assert done.status_code == 201, done.text
    assert done.json()["aliases"] == ["prod"]
    assert done.json()["weights_sha256"] == hashlib.sha256(weights).hexdigest()
    assert await api.stored() == (1, -(-len(weights) // 1024**2), 0)
    # The upload ended with its version.
    assert (await complete(api, key, upload)).status_code == 404


async def test_config_may_be_json_itself(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    files = adapter_files(adapter_dir)
    upload = (await open_upload(api, key, files, config=json.loads(files["config"]))).json()["id"]
    await send(api, key, upload, files["weights"])
    pushed = (await api.push(key, files, "b")).json()
    assert (await complete(api, key, upload)).json()["digest"] == pushed["digest"]


async def test_repeated_keys_in_the_config_are_noticed(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    body = (
        '{"name": "a", "size": 10, "sha256": "' + "0" * 64 + '", "config": '
        '{"peft_type": "LORA", "r": 8, "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"]}}'
    )
    answer = await api.client.post(
        "/api/v1/uploads",
        content=body,
        headers={**bearer(key), "content-type": "application/json"},
    )
    assert answer.status_code == 422, answer.text


async def test_bytes_go_where_the_stored_ones_end(api: Api, files: dict[str, bytes]) -> None:
    key = await api.tenant("acme")
    upload = (await open_upload(api, key, files)).json()["id"]
    weights = files["weights"]
    await send(api, key, upload, weights[:1000])
    for first in (0, 999, 1001):
        answer = await send(api, key, upload, weights[first : first + 10], first)
        assert (answer.status_code, answer.json()["code"]) == (409, "wrong_offset")
    too_many = await send(api, key, upload, weights[1000:] + b"x", 1000)
    assert too_many.status_code == 413
    for value in ("bytes", "bytes 5-1/9", "items 0-1/2", "bytes 1000-1001/5", "bytes a-b/*"):
        answer = await api.client.put(
            f"/api/v1/uploads/{upload}",
            content=b"xx",
            headers={**bearer(key), "content-range": value},
        )
        assert (answer.status_code, answer.json()["param"]) == (400, "content-range"), value


async def test_simultaneous_writers_do_not_mix(api: Api, files: dict[str, bytes]) -> None:
    key = await api.tenant("acme")
    upload = (await open_upload(api, key, files)).json()["id"]
    weights = files["weights"]
    answers = await asyncio.gather(*(send(api, key, upload, weights) for _ in range(4)))
    assert {answer.status_code for answer in answers} <= {200, 409}
    assert 200 in {answer.status_code for answer in answers}
    assert (await complete(api, key, upload)).status_code == 201


async def test_a_wrong_header_ends_the_upload_at_once(api: Api, files: dict[str, bytes]) -> None:
    key = await api.tenant("acme")
    wrong = {**files, "config": with_config(files, r=4)["config"]}
    upload = (await open_upload(api, key, wrong)).json()["id"]

    async def body() -> AsyncIterator[bytes]:
        for start in range(0, len(files["weights"]), 200_000):
            yield files["weights"][start : start + 200_000]

    answer = await api.client.put(f"/api/v1/uploads/{upload}", content=body(), headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (422, "adapter_rejected")
    assert await api.stored() == (0, 0, 0)
    gone = await api.client.get(f"/api/v1/uploads/{upload}", headers=bearer(key))
    assert gone.status_code == 404


async def test_a_refused_config_opens_no_upload(api: Api, files: dict[str, bytes]) -> None:
    key = await api.tenant("acme")
    answer = await open_upload(api, key, with_config(files, use_dora=True))
    assert (answer.status_code, answer.json()["param"]) == (422, "use_dora")
    assert await api.stored() == (0, 0, 0)


async def test_bytes_other_than_announced_are_refused(api: Api, files: dict[str, bytes]) -> None:
    key = await api.tenant("acme")
    upload = (await open_upload(api, key, files, sha256="0" * 64)).json()["id"]
    await send(api, key, upload, files["weights"])
    answer = await complete(api, key, upload)
    assert (answer.status_code, answer.json()["code"]) == (422, "digest_mismatch")
    assert await api.stored() == (0, 0, 0)


async def test_a_late_fault_leaves_nothing(api: Api, files: dict[str, bytes]) -> None:
    key = await api.tenant("acme")
    weights = bytearray(files["weights"])
    weights[-4:] = b"\x00\x00\xc0\x7f"
    bad = {**files, "weights": bytes(weights)}
    upload = (await open_upload(api, key, bad)).json()["id"]
    # The first request brings the header, which is fine; the values come with the second.
    await send(api, key, upload, bad["weights"][:1_500_000])
    await send(api, key, upload, bad["weights"][1_500_000:], 1_500_000)
    answer = await complete(api, key, upload)
    assert (answer.status_code, answer.json()["code"]) == (422, "adapter_rejected")
    assert await api.stored() == (0, 0, 0)


async def test_an_incomplete_upload_is_not_completed(api: Api, files: dict[str, bytes]) -> None:
    key = await api.tenant("acme")
    upload = (await open_upload(api, key, files)).json()["id"]
    await send(api, key, upload, files["weights"][:-1])
    answer = await complete(api, key, upload)
    assert (answer.status_code, answer.json()["code"]) == (409, "incomplete_upload")


async def test_only_one_of_two_completes(api: Api, files: dict[str, bytes]) -> None:
    key = await api.tenant("acme")
    upload = (await open_upload(api, key, files)).json()["id"]
    await send(api, key, upload, files["weights"])
    answers = await asyncio.gather(*(complete(api, key, upload) for _ in range(3)))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 201
    assert set(statuses[1:]) <= {404, 409}
    assert (await api.stored())[0] == 1


async def test_uploads_of_another_tenant_look_absent(api: Api, files: dict[str, bytes]) -> None:
    upload = (await open_upload(api, await api.tenant("acme"), files)).json()["id"]
    other = bearer(await api.tenant("globex"))
    absent = f"/api/v1/uploads/{UUID(int=7)}"
    for method, path in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "/complete")):
        foreign = await api.client.request(method, f"/api/v1/uploads/{upload}{path}", headers=other)
        nothing = await api.client.request(method, absent + path, headers=other)
        assert foreign.status_code == nothing.status_code == 404
        assert foreign.content == nothing.content


async def test_a_cancelled_upload_leaves_nothing(api: Api, files: dict[str, bytes]) -> None:
    key = await api.tenant("acme")
    upload = (await open_upload(api, key, files)).json()["id"]
    await send(api, key, upload, files["weights"][:1000])
    answer = await api.client.delete(f"/api/v1/uploads/{upload}", headers=bearer(key))
    assert answer.status_code == 204
    assert await api.stored() == (0, 0, 0)


async def test_the_sweep_takes_expired_uploads_and_orphaned_chunks_only(
    api: Api, files: dict[str, bytes]
) -> None:
    key = await api.tenant("acme")
    await api.push(key, files, "kept")
    uploads = [(await open_upload(api, key, files)).json()["id"] for _ in range(2)]
    for upload in uploads:
        await send(api, key, upload, files["weights"][:5000])
    weights = Weights(api.database)

    async def orphan() -> AsyncIterator[bytes]:
        yield b"left behind by a crash"

    await weights.chunks.append(UUID(int=1), orphan())
    # Of an upload that was cancelled while it was sent: only what came afterwards is there.
    async with api.database.weights.transaction() as connection:
        late = {"blob_id": UUID(int=2), "seq": 8, "data": b"late"}
        await connection.execute(insert(BlobChunk), [late])
    async with api.database.main.writing(EVERY_TENANT) as session:
        past = utc_now() - timedelta(seconds=1)
        await session.execute(
            update(Upload).where(Upload.id == UUID(uploads[0])).values(expires_at=past)
        )
    assert sum(await weights.sweep()) == 3
    assert sum(await weights.sweep()) == 0
    blobs, _, open_uploads = await api.stored()
    assert (blobs, open_uploads) == (2, 1)
    await send(api, key, uploads[1], files["weights"][5000:], 5000)
    assert (await complete(api, key, uploads[1])).status_code == 201


async def test_cancelling_what_was_completed_a_moment_ago_leaves_the_version(
    api: Api, files: dict[str, bytes]
) -> None:
    key = await api.tenant("acme")
    await api.push(key, files, "kept")
    async with api.database.main.reading(EVERY_TENANT) as session:
        blob_id = await session.scalar(select(Blob.id))
    assert blob_id is not None
    weights = Weights(api.database)
    await weights.discard(blob_id)
    assert await weights.chunks.length(blob_id) == len(files["weights"])


async def test_open_uploads_are_limited(api: Api, adapter_dir: Path) -> None:
    key, files = await api.tenant("acme"), adapter_files(adapter_dir)
    answers = [await open_upload(api, key, files) for _ in range(33)]
    assert [a.status_code for a in answers] == [201] * 32 + [409]
    assert answers[-1].json()["code"] == "too_many_uploads"
