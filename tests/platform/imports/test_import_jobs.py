"""Imports as jobs: who sees them, cancelling, quotas, secrets that go with their process."""

import asyncio
from datetime import timedelta
from uuid import UUID, uuid4

from sqlalchemy import update

from loraplex.platform.db.base import utc_now
from loraplex.platform.db.models import Job, Tenant
from loraplex.platform.db.scope import EVERY_TENANT
from support.hub import Hub
from support.importing import begin, ended, imported
from support.services import OPERATOR, Api, bearer

SOURCE: dict[str, object] = {"huggingface": {"repo": "org/lora"}}


async def test_jobs_of_another_tenant_look_absent(api: Api) -> None:
    key, other = await api.tenant("acme"), await api.tenant("globex")
    job = await begin(api, key, SOURCE)
    await ended(api, key, job)
    for method in ("GET", "DELETE"):
        foreign = await api.client.request(method, f"/api/v1/jobs/{job}", headers=bearer(other))
        absent = await api.client.request(method, f"/api/v1/jobs/{uuid4()}", headers=bearer(other))
        assert foreign.status_code == absent.status_code == 404
        assert foreign.content == absent.content
    assert (await api.client.get("/api/v1/jobs", headers=bearer(other))).json()["data"] == []
    mine = (await api.client.get("/api/v1/jobs", headers=bearer(key))).json()
    assert [row["id"] for row in mine["data"]] == [job]
    assert "actor" not in mine["data"][0]["request"]
    again = await api.client.delete(f"/api/v1/jobs/{job}", headers=bearer(key))
    assert again.status_code == 409


async def test_a_cancelled_import_leaves_nothing(api: Api, hub: Hub) -> None:
    key = await api.tenant("acme")
    hub.gate.clear()
    job = await begin(api, key, SOURCE)
    while len(hub.asked) < 3:  # noqa: ASYNC110  # in another thread
        await asyncio.sleep(0.01)
    answer = await api.client.delete(f"/api/v1/jobs/{job}", headers=bearer(key))
    assert answer.status_code == 204
    hub.gate.set()
    row = await ended(api, key, job)
    assert (row["state"], row["error"]) == ("failed", "It was cancelled.")
    # Whoever ran it finds at the end that it is no longer there to be ended.
    while api.spooled():  # noqa: ASYNC110  # on the disk
        await asyncio.sleep(0.01)
    following = await imported(api, key, SOURCE)
    assert isinstance(following["result"], dict)
    assert following["result"]["model"] == "a@1"


async def test_an_import_beyond_the_quota_fails_and_stores_nothing(api: Api) -> None:
    key = await api.tenant("acme")
    async with api.database.main.writing(EVERY_TENANT) as session:
        await session.execute(update(Tenant).values(storage_limit=1000))
    job = await imported(api, key, SOURCE)
    assert "do not fit" in str(job["error"])
    assert await api.stored() == (0, 0, 0)
    async with api.database.main.writing(EVERY_TENANT) as session:
        await session.execute(update(Tenant).values(storage_limit=0))
    answer = await api.client.post(
        "/api/v1/imports", headers=bearer(key), json={"name": "a", "source": SOURCE}
    )
    assert (answer.status_code, answer.json()["code"]) == (413, "storage_quota_exceeded")


async def test_a_job_whose_token_went_with_its_process_says_so(api: Api) -> None:
    key = await api.tenant("acme")
    job = Job(
        id=uuid4(),
        kind="import",
        request={
            "name": "a",
            "alias": None,
            "base": None,
            "source": {"huggingface": {"repo": "org/lora"}},
            "secret": True,
            "actor": {"name": "x", "address": "", "operator": False},
        },
        created_by="x",
        # Nobody has renewed it.
        locked_until=utc_now() - timedelta(seconds=1),
    )
    listed = await api.client.get("/api/v1/tenants", headers=bearer(OPERATOR))
    job.tenant_id = UUID(listed.json()["data"][0]["id"])
    async with api.database.main.writing(EVERY_TENANT) as session:
        session.add(job)
    row = await ended(api, key, str(job.id))
    assert "tokens and credentials are not kept" in str(row["error"])
