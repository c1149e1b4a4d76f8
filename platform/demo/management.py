"""Owns the demo's calls to the management API: tenants, keys, uploads, live engine state. Plain HTTP, as any client
would do it."""

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from loraplex.platform.demo.server import DemoError


class Management:
    """The management API with an operator's key.

    Raises:
        DemoError: from every method, when the server refuses; the message carries its answer.
    """

    def __init__(self, url: str, operator_key: str) -> None:
        self._http = httpx.Client(
            base_url=f"{url}/api/v1", headers=_bearer(operator_key), timeout=60, trust_env=False
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def ensure_tenant(self, tenant: str) -> None:
        """Make the tenant; one that exists (in a kept data directory) is fine."""
        answer = self._http.post("/tenants", json={"name": tenant})
        if answer.status_code != httpx.codes.CONFLICT:
            _check(answer, f"create the tenant {tenant}")

    def create_key(self, tenant: str) -> str:
        """A new key of the tenant, for inference and adapters."""
        answer = self._http.post(f"/tenants/{tenant}/keys", json={"name": "demo"})
        return str(_check(answer, f"create a key of {tenant}")["key"])

    def ensure_person(self, email: str, password: str, tenants: Iterable[str]) -> None:
        """Somebody who signs in to the dashboard: an operator, and an owner of the tenants. Whoever has the address
        already (in a kept data directory) gets the password."""
        person = {"email": email, "name": "Demo", "is_operator": True}
        made = self._http.post("/users", json=person)
        if made.status_code == httpx.codes.CONFLICT:
            found = _check(self._http.get("/users", params={"email": email}), f"find {email}")
            made = self._http.post(f"/users/{found['data'][0]['id']}/reset")
            code = _check(made, f"reset the password of {email}")["code"]
        else:
            code = _check(made, f"create the user {email}")["reset"]["code"]
        chosen = {"code": code, "password": password}
        _check(self._http.post("/password-reset", json=chosen), "set a password")
        for tenant in tenants:
            member = {"email": email, "role": "owner"}
            answer = self._http.post(f"/tenants/{tenant}/members", json=member)
            if answer.status_code != httpx.codes.CONFLICT:
                _check(answer, f"make {email} an owner of {tenant}")

    def upload(self, key: str, name: str, path: Path) -> None:
        """Upload the PEFT directory `path` under `name` with a tenant's key; returns once it can be used."""
        with (
            (path / "adapter_config.json").open("rb") as config,
            (path / "adapter_model.safetensors").open("rb") as weights,
        ):
            answer = self._http.post(
                "/adapters",
                headers=_bearer(key),
                data={"name": name},
                files={
                    "config": ("adapter_config.json", config, "application/json"),
                    "weights": (
                        "adapter_model.safetensors",
                        weights,
                        "application/octet-stream",
                    ),
                },
            )
        _check(answer, f"upload the adapter {name}")

    def most_mixed_batch(self) -> int | None:
        """How many adapters shared the most mixed batch so far; None if the server does not say."""
        return _find(
            _check(self._http.get("/engine"), "read the engine's state"), "most_batch_adapters"
        )


def _bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def _check(answer: httpx.Response, action: str) -> dict[str, Any]:
    if answer.is_success:
        body = answer.json() if answer.content else {}
        return body if isinstance(body, dict) else {}
    raise DemoError(f"The server did not {action}: {answer.status_code} {answer.text[:500]}")


def _find(value: object, name: str) -> int | None:
    """The first number called `name` anywhere inside a JSON value."""
    if isinstance(value, dict):
        if isinstance(found := value.get(name), int | float):
            return int(found)
        value = list(value.values())
    if isinstance(value, list):
        found_inside = (_find(item, name) for item in value)
        return next((number for number in found_inside if number is not None), None)
    return None
