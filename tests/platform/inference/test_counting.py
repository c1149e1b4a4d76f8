"""What is counted or tokenized runs on no engine; limits and the ledger know of it all the same."""

import asyncio

from sqlalchemy import select

from loraplex.platform.db.models import LedgerEntry
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.settings import Settings
from support.patience import PATIENCE_SECONDS
from support.served import Served, served
from support.services import OPERATOR, bearer, sqlite_only

ASKED = [{"role": "user", "content": "Hello"}]
CALLS: list[tuple[str, str, dict[str, object]]] = [
    ("/v1/messages/count_tokens", "count_tokens", {"messages": ASKED}),
    ("/v1/responses/input_tokens", "count_tokens", {"input": "Hello"}),
    ("/tokenize", "tokenize", {"prompt": "Hello"}),
    ("/v1/tokenize", "tokenize", {"messages": ASKED}),
    ("/v1/detokenize", "detokenize", {"tokens": [1, 2]}),
]
# Found to be wrong only after it was admitted.
LONG = {"model": "tiny", "prompt": "x" * 1_000_001}


@sqlite_only
async def test_each_is_a_request_of_no_tokens(settings: Settings) -> None:
    async with served(settings) as service:
        key = await service.tenant("acme")
        most = len(CALLS) + 1
        await service.http.put(
            "/api/v1/tenants/acme/limits",
            json={"requests_per_minute": most, "max_concurrent": 1},
            headers=bearer(OPERATOR),
        )
        for number, (path, _, body) in enumerate(CALLS, 1):
            await settled(service, number - 1)
            answer = await service.http.post(
                path, json={"model": "tiny", **body}, headers=bearer(key)
            )
            assert answer.status_code == 200, answer.text
            assert answer.headers["x-ratelimit-remaining-requests"] == str(most - number)
        await settled(service, len(CALLS))
        wrong = await service.http.post("/tokenize", json=LONG, headers=bearer(key))
        assert (wrong.status_code, wrong.json()["error"]["param"]) == (400, "prompt")
        rows = await settled(service, most)
        for path, _, body in CALLS:
            answer = await service.http.post(
                path, json={"model": "tiny", **body}, headers=bearer(key)
            )
            assert answer.status_code == 429, path
            assert int(answer.headers["retry-after-ms"]) > 0
        assert len(await settled(service, most)) == most
        assert [row.endpoint for row in rows] == [name for _, name, _ in CALLS] + ["tokenize"]
        assert [row.finish_reason for row in rows] == ["stop"] * len(CALLS) + ["refused"]
        for row in rows:
            assert (row.prompt_tokens, row.output_tokens, row.cost_nanos) == (0, 0, 0)


async def settled(service: Served, count: int) -> list[LedgerEntry]:
    """The rows of the ledger in their order, once so many are settled."""
    query = select(LedgerEntry).where(LedgerEntry.state == "settled").order_by(LedgerEntry.id)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            async with service.database.main.reading(EVERY_TENANT) as session:
                rows = list(await session.scalars(query))
            if len(rows) >= count:
                return rows
            await asyncio.sleep(0.01)
