"""Owns beginning imports and waiting for their jobs."""

import asyncio

from support.services import Api, bearer

Json = dict[str, object]


async def begin(api: Api, key: str, source: dict[str, object], **fields: object) -> str:
    """Begin an import of the adapter `a`; returns the job's id."""
    answer = await api.client.post(
        "/api/v1/imports", headers=bearer(key), json={"name": "a", "source": source, **fields}
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


async def ended(api: Api, key: str, job: str) -> dict[str, object]:
    """A job once it has ended."""
    while True:
        answer = await api.client.get(f"/api/v1/jobs/{job}", headers=bearer(key))
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        if found["state"] in ("succeeded", "failed"):
            return found
        await asyncio.sleep(0.02)


async def imported(
    api: Api, key: str, source: dict[str, object], **fields: object
) -> dict[str, object]:
    """An import's job once it has ended."""
    return await ended(api, key, await begin(api, key, source, **fields))
