"""The routes of webhooks: secrets are shown once, each tenant has its own, and what is sent can be looked at."""

import asyncio
import json

import pytest
from httpx import Response

from support.receiver import FINE, receiver, status
from support.services import OPERATOR, Api, bearer, sqlite_only

HOOKS = "/api/v1/webhooks"


async def create(api: Api, key: str, url: str = "https://example.com/", **more: object) -> Response:
    return await api.client.post(HOOKS, headers=bearer(key), json={"url": url, **more})


async def settled(api: Api, key: str, hook: str) -> list[dict[str, object]]:
    """The deliveries of a webhook once none is pending."""
    while True:
        answer = await api.client.get(f"{HOOKS}/{hook}/deliveries", headers=bearer(key))
        rows: list[dict[str, object]] = answer.json()["data"]
        if all(row["state"] != "pending" for row in rows):
            return rows
        await asyncio.sleep(0.05)


async def test_a_webhook_from_beginning_to_end(api: Api) -> None:
    key = await api.tenant("acme", "admin")
    made = await create(api, key, events=["key.created"], description="ours")
    assert made.status_code == 201, made.text
    hook = made.json()
    assert hook["secret"].startswith("whsec_")
    assert (hook["events"], hook["enabled"]) == (["key.created"], True)
    shown = {name: value for name, value in hook.items() if name != "secret"}
    one = f"{HOOKS}/{hook['id']}"
    assert (await api.client.get(one, headers=bearer(key))).json() == shown
    assert (await api.client.get(HOOKS, headers=bearer(key))).json() == {"data": [shown]}

    change = {"url": "https://example.com:8443/x", "events": [], "enabled": False}
    changed = (await api.client.patch(one, headers=bearer(key), json=change)).json()
    assert (changed["url"], changed["events"]) == ("https://example.com:8443/x", [])
    assert changed["disabled_at"] is not None
    assert "secret" not in changed
    refused = await api.client.post(f"{one}/test", headers=bearer(key))
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")

    renewed = await api.client.post(f"{one}/secret", headers=bearer(key))
    assert renewed.status_code == 201
    assert renewed.json()["secret"] != hook["secret"]
    assert renewed.json()["previous_secret_until"] is not None

    assert (await api.client.delete(one, headers=bearer(key))).status_code == 204
    assert (await api.client.get(one, headers=bearer(key))).status_code == 404
    trail = await api.client.get("/api/v1/audit?action=webhook.", headers=bearer(key))
    acts = [(entry["action"], entry["target"]) for entry in trail.json()["data"]]
    names = ("delete", "renew_secret", "change", "create")
    assert acts == [(f"webhook.{name}", hook["id"]) for name in names]
    changes = trail.json()["data"][2]
    assert changes["before"] == {
        "url": "https://example.com/",
        "events": ["key.created"],
        "enabled": True,
    }
    assert changes["after"] == change
    assert "whsec_" not in trail.text


async def test_a_test_is_delivered_and_can_be_sent_again(api: Api) -> None:
    key = await api.tenant("acme", "admin")
    async with receiver() as got:
        got.answers = [status(410), FINE]
        hook = (
            await create(api, key, f"http://127.0.0.1:{got.port}/", events=["member.joined"])
        ).json()
        one = f"{HOOKS}/{hook['id']}"
        sent = await api.client.post(f"{one}/test", headers=bearer(key))
        assert sent.status_code == 202
        assert (sent.json()["event"], sent.json()["state"]) == ("webhook.test", "pending")
        (row,) = await settled(api, key, hook["id"])
        assert (row["state"], row["last_status"], row["next_at"]) == ("failed", 410, None)
        again = f"{one}/deliveries/{row['id']}/redeliver"
        assert (await api.client.post(again, headers=bearer(key))).status_code == 409  # disabled
        await api.client.patch(one, headers=bearer(key), json={"enabled": True})
        assert (await api.client.post(again, headers=bearer(key))).status_code == 202
        (row,) = await settled(api, key, hook["id"])
        assert (row["state"], row["attempts"]) == ("delivered", 1)
        first, second = got.received
        assert first.headers["webhook-id"] == second.headers["webhook-id"] == row["id"]
        assert json.loads(second.body) == row["body"]
        assert json.loads(second.body)["data"] == {"webhook": hook["id"]}


@sqlite_only
async def test_deliveries_come_in_pages(api: Api) -> None:
    key = await api.tenant("acme", "admin")
    async with receiver() as got:
        hook = (await create(api, key, f"http://127.0.0.1:{got.port}/")).json()
        ids = [
            (await api.client.post(f"{HOOKS}/{hook['id']}/test", headers=bearer(key))).json()["id"]
            for _ in range(5)
        ]
        await settled(api, key, hook["id"])
    seen, query = [], "?limit=2"
    while True:
        path = f"{HOOKS}/{hook['id']}/deliveries{query}"
        page = (await api.client.get(path, headers=bearer(key))).json()
        seen += [row["id"] for row in page["data"]]
        if page["next"] is None:
            break
        query = f"?limit=2&before={page['next']}"
    assert seen == ids[::-1]


async def test_webhooks_of_another_tenant_are_not_there(api: Api) -> None:
    mine, other = await api.tenant("acme", "admin"), await api.tenant("globex", "admin")
    hook = (await create(api, mine)).json()["id"]
    await api.client.post(f"{HOOKS}/{hook}/test", headers=bearer(mine))
    sent = (await api.client.get(f"{HOOKS}/{hook}/deliveries", headers=bearer(mine))).json()
    sent = sent["data"][0]["id"]
    absent = "01a2030c-69b4-77bb-a6be-25afd1c9095b"
    for method, path in (
        ("GET", "/{}"),
        ("PATCH", "/{}"),
        ("DELETE", "/{}"),
        ("POST", "/{}/secret"),
        ("POST", "/{}/test"),
        ("GET", "/{}/deliveries"),
        ("POST", f"/{{}}/deliveries/{sent}/redeliver"),
    ):
        answers = [
            await api.client.request(
                method, HOOKS + path.format(it), headers=bearer(other), json={}
            )
            for it in (hook, absent)
        ]
        bodies = [answer.text.replace(hook, "*").replace(absent, "*") for answer in answers]
        assert [answer.status_code for answer in answers] == [404, 404], (method, path)
        assert bodies[0] == bodies[1]
    own = (await create(api, other)).json()["id"]
    borrowed = f"{HOOKS}/{own}/deliveries/{sent}/redeliver"
    assert (await api.client.post(borrowed, headers=bearer(other))).status_code == 404
    theirs = await api.client.get(f"{HOOKS}?tenant=globex", headers=bearer(OPERATOR))
    assert [row["id"] for row in theirs.json()["data"]] == [own]
    assert (await api.client.get(HOOKS, headers=bearer(OPERATOR))).status_code == 400


@sqlite_only
@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "http://10.0.0.1/"},
        {"url": "https://169.254.169.254/latest"},
        {"url": "https://user:secret@example.com/"},
        {"url": "https://example.com/" + "x" * 2048},
        {"url": "https://example.com/\0"},
        {"url": "https://example.com/", "events": ["no.such"]},
        {"url": "https://example.com/", "events": "key.created"},
        {"url": "https://example.com/", "secret": "mine"},
        {"url": "https://example.com/", "description": "x" * 201},
    ],
)
async def test_what_is_wrong_with_a_webhook_is_said(api: Api, body: dict[str, object]) -> None:
    key = await api.tenant("acme", "admin")
    hook = (await create(api, key)).json()["id"]
    answer = await api.client.post(HOOKS, headers=bearer(key), json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["param"].split("[")[0] in ("url", "events", "secret", "description")
    assert "secret@" not in answer.text
    if body:
        changed = await api.client.patch(f"{HOOKS}/{hook}", headers=bearer(key), json=body)
        assert changed.json() == answer.json()


@sqlite_only
async def test_only_admins_have_webhooks_and_not_too_many(api: Api) -> None:
    lesser = await api.tenant("acme", "inference", "adapters", "usage")
    assert (await create(api, lesser)).status_code == 403
    assert (await api.client.get(HOOKS, headers=bearer(lesser))).status_code == 403
    key = await api.tenant("acme", "admin")
    answers = await asyncio.gather(*(create(api, key) for _ in range(12)))
    assert sorted(answer.status_code for answer in answers) == [201] * 10 + [409] * 2
    assert {a.json()["code"] for a in answers if a.status_code == 409} == {"too_many_webhooks"}
