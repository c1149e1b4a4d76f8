"""Usage and costs as OpenAI's own client asks for them."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import openai
import pytest
from openai.types.admin.organization import UsageCompletionsResponse, UsageCostsResponse
from openai.types.admin.organization.usage_completions_response import (
    DataResultOrganizationUsageCompletionsResult as Result,
)
from openai.types.admin.organization.usage_costs_response import (
    DataResultOrganizationCostsResult as Cost,
)

from loraplex.platform.usage import organization
from support.meters import entries, set_price
from support.services import OPERATOR, Api, bearer, sqlite_only
from support.usage import USER, fill, sums, tenant_id

START = datetime(2026, 11, 9, 20, 30, 15, tzinfo=UTC)
FIRST = int(datetime(2026, 11, 9, tzinfo=UTC).timestamp())
DAY = 86400
PATHS = ("usage/completions", "costs")


@asynccontextmanager
async def administration(
    api: Api, key: str, path: str = "/v1"
) -> AsyncGenerator[openai.AsyncOpenAI]:
    """OpenAI's client, with a key where its administrators' keys belong."""
    transport = api.client._transport
    async with openai.AsyncOpenAI(
        api_key="unused",
        admin_api_key=key,
        base_url=f"http://test{path}",
        max_retries=0,
        http_client=httpx.AsyncClient(transport=transport),  # type: ignore[arg-type]  # typed for another package of the same interface
    ) as client:
        yield client


def results(page: UsageCompletionsResponse) -> list[Result]:
    of_all = [result for bucket in page.data for result in bucket.results]
    assert all(isinstance(result, Result) for result in of_all)
    return [result for result in of_all if isinstance(result, Result)]


def amounts(page: UsageCostsResponse) -> list[float]:
    of_all = [result for bucket in page.data for result in bucket.results]
    assert all(isinstance(result, Cost) for result in of_all)
    found = [r.amount for r in of_all if isinstance(r, Cost) and r.amount is not None]
    assert {amount.currency for amount in found} <= {"usd"}
    return [amount.value or 0 for amount in found]


async def test_the_official_client_reads_usage_and_costs(api: Api) -> None:
    key = await api.tenant("acme", "usage")
    await api.tenant("globex")
    await set_price(api.database, 100, 10, 400)
    acme, globex = [await tenant_id(api.database, name) for name in ("acme", "globex")]
    await fill(api.database, acme, START, 24, timedelta(hours=1))
    await fill(api.database, globex, START, 5, timedelta(hours=5))
    rows = await entries(api.database)
    own = sums(row for row in rows if row.tenant_id == acme)
    end = FIRST + 4 * DAY
    async with administration(api, key) as client:
        usage = client.admin.organization.usage
        page = await usage.completions(start_time=FIRST + 5, end_time=end)
        assert [bucket.start_time for bucket in page.data] == [FIRST + n * DAY for n in range(4)]
        assert [bucket.end_time for bucket in page.data] == [FIRST + n * DAY for n in range(1, 5)]
        assert [len(bucket.results) for bucket in page.data] == [1, 1, 0, 0]
        assert (page.has_more, page.next_page) == (False, None)
        both = results(page)
        assert sum(result.num_model_requests for result in both) == own["requests"] == 24
        assert sum(result.input_tokens for result in both) == own["prompt_tokens"]
        assert sum(result.output_tokens for result in both) == own["output_tokens"]
        assert sum(result.input_cached_tokens or 0 for result in both) == own["cached_tokens"]
        assert {(r.project_id, r.user_id, r.api_key_id, r.model) for r in both} == {(None,) * 4}
        # Grouped: versions of an adapter are one model, users are not keys.
        page = await usage.completions(start_time=FIRST, end_time=end, group_by=["model"])
        models = [
            (b.start_time, r.model) for b in page.data for r in b.results if isinstance(r, Result)
        ]
        assert len(models) == len(set(models)) == 6
        assert {model for _, model in models} == {"tiny", "fox", "owl"}
        page = await usage.completions(
            start_time=FIRST, end_time=end, group_by=["project_id", "user_id", "api_key_id"]
        )
        assert {(r.project_id, r.user_id, r.api_key_id) for r in results(page)} == {
            ("acme", USER, None),
            ("acme", None, "key000000001"),
            ("acme", None, "key000000002"),
        }
        # Narrowed down.
        for names, count in ((["fox", "tiny"], 16), (["fox"], 8), (["none"], 0)):
            page = await usage.completions(start_time=FIRST, end_time=end, models=names)
            assert sum(r.num_model_requests for r in results(page)) == count
        page = await usage.completions(start_time=FIRST, end_time=end, user_ids=[USER])
        assert sum(r.num_model_requests for r in results(page)) == 8
        page = await usage.completions(start_time=FIRST, end_time=end, project_ids=["globex"])
        assert results(page) == []
        costs = await usage.costs(start_time=FIRST, end_time=end)
        assert round(sum(amounts(costs)) * 1e9) == own["cost_nanos"] > 0
        costs = await usage.costs(start_time=FIRST, end_time=end, group_by=["line_item"])
        items = {r.line_item for b in costs.data for r in b.results if isinstance(r, Cost)}
        assert items == {"tiny", "fox", "owl"}
    async with administration(api, OPERATOR) as client:
        usage = client.admin.organization.usage
        page = await usage.completions(start_time=FIRST, end_time=end, group_by=["project_id"])
        found = {r.project_id: 0 for r in results(page)}
        for result in results(page):
            found[result.project_id] += result.num_model_requests
        assert found == {"acme": 24, "globex": 5}
        page = await usage.completions(
            start_time=FIRST, end_time=end, project_ids=["globex", "none"]
        )
        assert sum(r.num_model_requests for r in results(page)) == 5
    # Below a tenant's own base URL: the same, for the tenant and for operators.
    for who in (key, OPERATOR):
        async with administration(api, who, "/t/acme/v1") as client:
            page = await client.admin.organization.usage.completions(start_time=FIRST, end_time=end)
            assert sum(r.num_model_requests for r in results(page)) == 24


async def test_pages_of_buckets(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await api.tenant("acme")
    acme = await tenant_id(api.database, "acme")
    await fill(api.database, acme, START, 30, timedelta(minutes=10))
    end = int((START + timedelta(hours=7)).timestamp())
    whole: list[object] = []
    # In few pages; in one a bucket; and where one bucket has more results than an answer may have.
    for limit, most in ((24, 10_000), (3, 10_000), (24, 20), (24, 2)):
        monkeypatch.setattr(organization, "MOST_LINES", most)
        seen: list[object] = []
        async with administration(api, key) as client:
            page_token: str | openai.Omit = openai.omit
            for turn in range(50):
                page = await client.admin.organization.usage.completions(
                    start_time=int(START.timestamp()), end_time=end, bucket_width="1h",
                    limit=limit, page=page_token, group_by=["api_key_id", "model"],
                )  # fmt: skip
                if turn == 0 and limit == 3:
                    # What comes meanwhile moves no bucket.
                    assert len(page.data) == 3
                seen += [(b.start_time, b.end_time, b.results) for b in page.data]
                assert page.has_more == (page.next_page is not None)
                if page.next_page is None:
                    break
                page_token = page.next_page
        whole = whole or seen
        assert len(seen) == 8
        assert seen == whole


@sqlite_only
async def test_who_may_ask(api: Api) -> None:
    keys = {scope: await api.tenant("acme", scope) for scope in ("usage", "inference", "admin")}
    await api.tenant("globex")
    for path in PATHS:
        cases = {keys["usage"]: 200, keys["inference"]: 403, keys["admin"]: 403, OPERATOR: 200}
        for key, status in cases.items():
            answer = await api.client.get(
                f"/v1/organization/{path}", params={"start_time": FIRST}, headers=bearer(key)
            )
            assert answer.status_code == status, (path, answer.text)
        # Others' tenants are as absent ones, also to a key that may see usage.
        bodies = set()
        for tenant in ("globex", "nobody"):
            answer = await api.client.get(
                f"/t/{tenant}/v1/organization/{path}",
                params={"start_time": FIRST},
                headers=bearer(keys["usage"]),
            )
            assert answer.status_code == 404
            bodies.add(answer.text)
        assert len(bodies) == 1
        answer = await api.client.get(
            f"/t/nobody/v1/organization/{path}",
            params={"start_time": FIRST},
            headers=bearer(OPERATOR),
        )
        assert answer.status_code == 404
    # What shows usage runs no models, and the reverse.
    answer = await api.client.get("/v1/models", headers=bearer(keys["usage"]))
    assert answer.status_code == 403
    answer = await api.client.get("/v1/models", headers=bearer(OPERATOR))
    assert answer.status_code == 403


@sqlite_only
async def test_what_cannot_be_asked(api: Api) -> None:
    key = await api.tenant("acme")
    for query in (
        "", "start_time=x", "start_time=-1", "start_time=99999999999999", "start_time=0&limit=0",
        "start_time=0&limit=32", "start_time=0&bucket_width=2h", "start_time=0&group_by=batch",
        "start_time=0&group_by[]=color", "start_time=0&page=x", "start_time=0&page=page_99999999999",
        "start_time=0&models=%00",
    ):  # fmt: skip
        answer = await api.client.get(
            f"/v1/organization/usage/completions?{query}", headers=bearer(key)
        )
        assert answer.status_code == 400, query
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    answer = await api.client.get(
        "/v1/organization/costs?start_time=0&limit=180", headers=bearer(key)
    )
    assert len(answer.json()["data"]) == 180
