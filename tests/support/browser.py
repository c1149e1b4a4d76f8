"""Owns a browser for tests of signing in: it keeps cookies, repeats the CSRF token, and says where its page is from."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx

from loraplex.platform.accounts.setup import ensure_setup_code
from loraplex.platform.settings import Settings
from support.apps import client_of, running_app
from support.services import OPERATOR, Api, FakeEngines, bearer

PASSWORD = "a plain long sentence"


class Browser:
    """One browser. `origin` is the address of the dashboard as it sees it."""

    def __init__(self, api: Api, origin: str = "http://localhost", address: str = "") -> None:
        self.api = api
        self.origin = origin
        self.cookies: dict[str, str] = {}
        self.csrf = ""
        self.headers = {"sec-fetch-site": "same-origin", "origin": origin}
        if address:
            self.headers["x-forwarded-for"] = address

    async def send(
        self,
        method: str,
        path: str,
        json: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """A request as the dashboard sends it; `headers` come on top."""
        sent = {**self.headers, **({"x-csrf-token": self.csrf} if self.csrf else {})}
        if self.cookies:
            sent["cookie"] = "; ".join(f"{k}={v}" for k, v in self.cookies.items())
        sent |= headers or {}
        sent = {name: value for name, value in sent.items() if value}
        client = self.api.client
        answer = await client.request(method, self.origin + path, json=json, headers=sent)
        client.cookies.clear()  # shared between browsers
        for cookie in answer.headers.get_list("set-cookie"):
            name, _, value = cookie.partition(";")[0].partition("=")
            self.cookies[name] = value
            if "Max-Age=0" in cookie:
                del self.cookies[name]
        if answer.is_success and answer.content and "csrf_token" in answer.json():
            self.csrf = answer.json()["csrf_token"]
        return answer

    async def sign_in(self, email: str, password: str = PASSWORD) -> httpx.Response:
        return await self.send("POST", "/api/v1/session", {"email": email, "password": password})

    async def who(self) -> httpx.Response:
        return await self.send("GET", "/api/v1/session")


@asynccontextmanager
async def another_worker(api: Api, settings: Settings) -> AsyncGenerator[Api]:
    """A second app over the same database, with `settings` of its own."""
    async with (
        running_app(settings, FakeEngines(settings.models)) as app,
        client_of(app, raises=True) as client,
    ):
        yield replace(api, client=client)


async def first_operator(api: Api, email: str = "root@example.com") -> Browser:
    """The browser of an operator who has just set the service up."""
    code = await ensure_setup_code(api.database)
    browser = Browser(api)
    body = {"code": code, "email": email, "password": PASSWORD}
    answer = await browser.send("POST", "/api/v1/setup", body)
    assert answer.status_code == 201, answer.text
    return browser


async def invited(api: Api, tenant: str, email: str, role: str) -> str:
    """The code of an invitation into a tenant, which is made if need be."""
    operator = bearer(OPERATOR)
    await api.client.post("/api/v1/tenants", json={"name": tenant}, headers=operator)
    path = f"/api/v1/tenants/{tenant}/invitations"
    answer = await api.client.post(path, json={"email": email, "role": role}, headers=operator)
    assert answer.status_code == 201, answer.text
    return str(answer.json()["code"])


async def member(api: Api, tenant: str, email: str, role: str) -> Browser:
    """The browser of somebody who has just joined a tenant."""
    browser = Browser(api)
    body = {"code": await invited(api, tenant, email, role), "password": PASSWORD}
    answer = await browser.send("POST", "/api/v1/invitations/accept", body)
    assert answer.status_code == 201, answer.text
    return browser
