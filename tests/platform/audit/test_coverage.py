"""Every route that changes something leaves an entry in the audit trail, or has a reason not to."""

import re
from pathlib import Path

from litestar.routes import HTTPRoute

from loraplex.platform.app import create_app
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.settings import Settings
from support.services import OPERATOR, Api, bearer

ROOT = Path(__file__).parents[3]
# Operation → the action of its entry.
AUDITED = {
    "AcceptInvitation": "member.create",
    "AddMember": "member.create",
    "CancelJob": "job.cancel",
    "ChangeAdapter": "adapter.change",
    "ChangeKey": "key.change",
    "ChangeMember": "member.change",
    "ChangePassword": "user.password",
    "ChangeTenant": "tenant.change",
    "ChangeUser": "user.change",
    "ChangeWebhook": "webhook.change",
    "ClearAdapterLimit": "limit.clear",
    "ClearAdapterPrice": "price.clear",
    "ClearKeyLimit": "limit.clear",
    "ClearPrice": "price.clear",
    "ClearTenantLimit": "limit.clear",
    "CollectGarbage": "storage.collect",
    "CompleteUpload": "version.create",
    "CreateInvitation": "invitation.create",
    "CreateKey": "key.create",
    "CreateOperatorKey": "key.create",
    "CreateTenant": "tenant.create",
    "CreateUser": "user.create",
    "CreateWebhook": "webhook.create",
    "DeleteAdapter": "adapter.delete",
    "DeleteAlias": "alias.delete",
    "DeleteTenant": "tenant.delete",
    "DeleteVersion": "version.delete",
    "DeleteWebhook": "webhook.delete",
    "EndSession": "session.end",
    "ImportAdapter": "import.create",
    "IssuePasswordReset": "user.reset",
    "PushAdapter": "version.create",
    "RedeliverWebhook": "webhook.redeliver",
    "RemoveMember": "member.delete",
    "RenewWebhookSecret": "webhook.renew_secret",
    "ResetPassword": "user.password",
    "RevokeInvitation": "invitation.delete",
    "RevokeKey": "key.revoke",
    "RevokeOperatorKey": "key.revoke",
    "RollBackAlias": "alias.rollback",
    "RotateKey": "key.rotate",
    "SetAdapterLimit": "limit.set",
    "SetAdapterPrice": "price.set",
    "SetAlias": "alias.set",
    "SetGolden": "golden.set",
    "SetKeyLimit": "limit.set",
    "SetPrice": "price.set",
    "SetTenantLimit": "limit.set",
    "SetUp": "user.create",
    "SignIn": "session.create",
    "SignOutEverywhere": "session.end",
    "TestWebhook": "webhook.test",
}
_ON_ITS_WAY = "bytes on their way to a version, which is recorded when it is made"
NOT_AUDITED = {
    "CancelUpload": _ON_ITS_WAY,
    "OpenUpload": _ON_ITS_WAY,
    "SendUpload": _ON_ITS_WAY,
    "CheckGolden": "asks a model and sets nothing; a failure is recorded as golden.fail",
    "TryChat": "asks a model and sets nothing; the ledger has it",
    "TryCompletion": "asks a model and sets nothing; the ledger has it",
    "SignOut": "ends the session it comes with and nothing else",
}
_UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}


def unsafe_operations(folder: Path) -> set[str]:
    """Operations of the management plane that can change something."""
    app = create_app(Settings(data_dir=folder), EnginePool([]))
    return {
        str(handler.operation_id)
        for route in app.routes
        if isinstance(route, HTTPRoute) and route.path.startswith("/api/v1/")
        for handler in route.route_handlers
        if _UNSAFE & handler.http_methods
    }


def test_every_route_that_changes_something_is_audited(tmp_path: Path) -> None:
    found = unsafe_operations(tmp_path)
    assert "CreateTenant" in found
    assert found - AUDITED.keys() - NOT_AUDITED.keys() == set()
    assert (AUDITED.keys() | NOT_AUDITED.keys()) - found == set()
    assert AUDITED.keys() & NOT_AUDITED.keys() == set()


def test_every_action_is_written_somewhere_and_is_a_noun_with_a_verb() -> None:
    code = "\n".join(file.read_text() for file in (ROOT / "platform").rglob("*.py"))
    for action in AUDITED.values():
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", action)
        assert f'"{action}"' in code


async def newest(api: Api) -> dict[str, object]:
    answer = await api.client.get("/api/v1/audit?limit=1", headers=bearer(OPERATOR))
    entry: dict[str, object] = answer.json()["data"][0]
    return entry


async def test_entries_hold_who_and_what_was_before_and_after(api: Api, adapter_dir: Path) -> None:
    key = await api.tenant("acme")
    for _ in range(2):
        assert (await api.push(key, adapter_dir)).status_code == 201
    assert (await newest(api))["action"] == "version.create"
    tenant = "/api/v1/tenants/acme"
    adapter = "/api/v1/adapters/a"
    nothing: dict[str, object] = {}
    # In this order: method, path, body, operation, what it was before, what it is after.
    acts: list[tuple[str, str, object, str, object, object]] = [
        ("PATCH", tenant, {"weight": 2.0}, "ChangeTenant", {"weight": 1.0}, {"weight": 2.0}),
        ("PUT", f"{adapter}/aliases/prod", {"version": 1}, "SetAlias", None, {"version": 1}),
        (
            "PUT",
            f"{adapter}/aliases/prod",
            {"version": 2},
            "SetAlias",
            {"version": 1},
            {"version": 2},
        ),
        (
            "POST",
            f"{adapter}/aliases/prod/rollback",
            None,
            "RollBackAlias",
            {"version": 2},
            {"version": 1},
        ),
        ("DELETE", f"{adapter}/aliases/prod", None, "DeleteAlias", {"version": 1}, None),
        (
            "PATCH",
            adapter,
            {"max_running": 3},
            "ChangeAdapter",
            {"max_running": None},
            {"max_running": 3},
        ),
        (
            "PUT",
            f"{tenant}/limits",
            {"max_concurrent": 3},
            "SetTenantLimit",
            None,
            {"max_concurrent": 3},
        ),
        (
            "PUT",
            f"{tenant}/limits",
            {"max_concurrent": 4},
            "SetTenantLimit",
            {"max_concurrent": 3},
            {"max_concurrent": 4},
        ),
        ("DELETE", f"{tenant}/limits", None, "ClearTenantLimit", {"max_concurrent": 4}, None),
        ("POST", f"{tenant}/keys", {"name": "ci"}, "CreateKey", None, {"name": "ci"}),
        ("DELETE", f"{adapter}/versions/2", None, "DeleteVersion", {}, None),
        ("DELETE", adapter, None, "DeleteAdapter", {}, None),
    ]
    for method, path, body, operation, before, after in acts:
        query = "?tenant=acme" if path.startswith(adapter) else ""
        answer = await api.client.request(
            method,
            path + query,
            json=body if body is not None else nothing,
            headers=bearer(OPERATOR),
        )
        assert answer.is_success, (operation, answer.text)
        entry = await newest(api)
        assert entry["action"] == AUDITED[operation]
        assert (entry["tenant"], entry["by_operator"]) == ("acme", True)
        for side, expected in (("before", before), ("after", after)):
            written = entry[side]
            if expected is None:
                assert written is None, (operation, side)
            else:
                assert isinstance(written, dict), (operation, side)
                assert isinstance(expected, dict)
                assert expected.items() <= written.items(), (operation, side)
