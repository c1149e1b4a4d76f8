"""Owns a server with the people that tests of the dashboard begin with."""

from typing import NamedTuple

import httpx

from support.serve import Serve, Tenant

PASSWORD = "a plain long sentence"


class Site(NamedTuple):
    """A server that was set up: an operator who owns the tenant `acme`, and a viewer there, both with `PASSWORD`."""

    serve: Serve
    acme: Tenant
    operator: str
    viewer: str


def join(served: Serve, email: str, role: str, name: str) -> None:
    """Invite somebody to `acme`, who accepts."""
    asked = {"email": email, "role": role}
    invited = served.operator.post("/api/v1/tenants/acme/invitations", json=asked)
    invited.raise_for_status()
    accepted = {"code": invited.json()["code"], "password": PASSWORD, "name": name}
    visit(served, "/api/v1/invitations/accept", accepted)


def visit(served: Serve, path: str, body: dict[str, str]) -> None:
    """Without a key, and without the cookie that comes back."""
    httpx.post(f"{served.url}{path}", json=body, trust_env=False, timeout=60).raise_for_status()
