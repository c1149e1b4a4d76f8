"""How much a tenant may store: counted once for equal contents, never exceeded by many at once, freed by deletion."""

import asyncio
import hashlib
from pathlib import Path

import httpx
from sqlalchemy import update

from loraplex.platform.db.models import Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from support.services import OPERATOR, Api, adapter_files, bearer


async def limit(api: Api, size: int | None) -> None:
    async with api.database.main.writing(EVERY_TENANT) as session:
        await session.execute(
            update(Tenant).where(Tenant.name == "acme").values(storage_limit=size)
        )


async def used(api: Api, key: str) -> tuple[int, int | None, int]:
    found = (await api.client.get("/api/v1/storage", headers=bearer(key))).json()
    return found["used"], found["limit"], found["files"]


def variants(files: dict[str, bytes], count: int) -> list[dict[str, bytes]]:
    """The adapter with other weights of the same size each."""
    return [{**files, "weights": files["weights"][:-4] + bytes([i, 0, 0, 0])} for i in range(count)]


async def test_equal_contents_count_once_and_deletion_frees(api: Api, adapter_dir: Path) -> None:
    key, files = await api.tenant("acme"), adapter_files(adapter_dir)
    size = len(files["weights"])
    assert await used(api, key) == (0, None, 0)
    await limit(api, size)
    for name in ("a", "a", "b"):
        assert (await api.push(key, files, name)).status_code == 201
    assert await used(api, key) == (size, size, 1)
    other = variants(files, 1)[0]
    refused = await api.push(key, other)
    assert refused.status_code == 413
    assert (refused.json()["code"], refused.json()["param"]) == ("storage_quota_exceeded", "size")
    assert (await api.stored())[0] == 1
    for path in ("a", "b"):
        await api.client.delete(f"/api/v1/adapters/{path}", headers=bearer(key))
    assert await used(api, key) == (0, size, 0)
    assert (await api.push(key, other)).status_code == 201
    # Another tenant's are its own.
    assert (await api.push(await api.tenant("globex"), files)).status_code == 201


async def test_many_at_once_do_not_take_the_same_room(api: Api, adapter_dir: Path) -> None:
    key, files = await api.tenant("acme"), adapter_files(adapter_dir)
    size = len(files["weights"])
    await limit(api, 3 * size + size // 2)
    answers = await asyncio.gather(
        *(api.push(key, variant, f"a{i}") for i, variant in enumerate(variants(files, 8)))
    )
    assert sorted(answer.status_code for answer in answers) == [201] * 3 + [413] * 5
    assert (await used(api, key))[0] == 3 * size


async def test_an_upload_takes_its_room_when_it_is_announced(api: Api, adapter_dir: Path) -> None:
    key, files = await api.tenant("acme"), adapter_files(adapter_dir)
    size = len(files["weights"])
    await limit(api, 2 * size)

    async def announce(weights: bytes, claimed: int = size) -> httpx.Response:
        body = {
            "name": "a",
            "size": claimed,
            "sha256": hashlib.sha256(weights).hexdigest(),
            "config": files["config"].decode(),
        }
        return await api.client.post("/api/v1/uploads", json=body, headers=bearer(key))

    first, second, third = variants(files, 3)
    answers = [await announce(variant["weights"]) for variant in (first, second, third)]
    assert [answer.status_code for answer in answers] == [201, 201, 413]
    assert (await used(api, key))[0] == 2 * size
    for answer in answers[:2]:
        await api.client.delete(f"/api/v1/uploads/{answer.json()['id']}", headers=bearer(key))
    assert (await api.push(key, first)).status_code == 201
    await limit(api, size)
    # Known contents need no room, unless they claim another size than they have.
    assert (await announce(first["weights"])).status_code == 201
    assert (await announce(first["weights"], size * 2)).status_code == 413


async def test_operators_collect_garbage_now(api: Api) -> None:
    key = await api.tenant("acme")
    answer = await api.client.post("/api/v1/gc", headers=bearer(OPERATOR))
    assert answer.status_code == 200
    assert answer.json() == {
        "expired_uploads": 0,
        "abandoned_pushes": 0,
        "orphaned_weights": 0,
        "expired_files": 0,
        "expired_file_uploads": 0,
        "old_jobs": 0,
    }
    assert (await api.client.post("/api/v1/gc", headers=bearer(key))).status_code == 403
    scraped = await api.client.get("/metrics", headers=bearer(OPERATOR))
    assert 'loraplex_garbage_removed_total{kind="old_jobs"} 0.0' in scraped.text
