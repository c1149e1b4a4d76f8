"""The dashboard in a real browser against a real server, as somebody meets it who has just installed it. The tests
stand in this order because each begins where the one before ended; what they share is made by the first."""

import json
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from support.pages import Visitor
from support.people import PASSWORD, join
from support.serve import Serve

OPERATOR = "op@example.com"
VIEWER = "viewer@example.com"
pytestmark = pytest.mark.e2e


def button(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_set_up_makes_the_operator_and_the_first_tenant(visitor: Visitor, code: str) -> None:
    page = visitor.page
    page.goto("/")
    page.wait_for_url("**/setup")
    assert visitor.violations() == []
    page.get_by_label("Set-up code").fill("wrong")
    page.get_by_label("E-mail").fill(OPERATOR)
    page.get_by_label("Your name").fill("Olga")
    page.get_by_label("Password").fill(PASSWORD)
    button(page, "Create operator")
    expect(page.get_by_role("alert")).to_contain_text("code")
    visitor.expect_refusal()
    page.get_by_label("Set-up code").fill(code)
    button(page, "Create operator")
    # The address changes before the page does.
    expect(page.get_by_role("heading", name="Tenants")).to_be_visible()
    page.get_by_label("Name", exact=True).fill("acme")
    button(page, "Create")
    expect(page.get_by_label("Tenant", exact=True)).to_have_value("acme")
    expect(page.get_by_role("link", name="Playground")).to_be_visible()
    page.goto("/adapters")
    expect(page.get_by_text("No adapters yet")).to_be_visible()
    assert visitor.complaints == []


def test_a_bad_adapter_is_explained_and_a_good_one_can_be_used(
    visitor: Visitor, adapter_dir: Path, tmp_path: Path
) -> None:
    page = visitor.page
    visitor.sign_in(OPERATOR, PASSWORD)
    page.get_by_role("link", name="Adapters", exact=True).click()
    page.get_by_role("button", name="Upload adapter").click()
    config = json.loads((adapter_dir / "adapter_config.json").read_text())
    bad = tmp_path / "adapter_config.json"
    bad.write_text(json.dumps({**config, "r": 9}))
    weights = adapter_dir / "adapter_model.safetensors"
    page.get_by_test_id("files").set_input_files([bad])
    expect(page.get_by_role("alert")).to_contain_text("adapter_model.safetensors")
    page.get_by_test_id("files").set_input_files([bad, weights])
    page.get_by_label("Name").fill("poems")
    button(page, "Upload")
    expect(page.get_by_text("This adapter cannot be served")).to_be_visible()
    expect(page.get_by_text("Rejected")).to_be_visible()
    visitor.expect_refusal()
    assert visitor.violations() == []
    for expected in ("poems@1 can be used now", "poems@2 can be used now"):
        page.get_by_test_id("files").set_input_files([adapter_dir / "adapter_config.json", weights])
        button(page, "Upload")
        expect(page.get_by_text(expected)).to_be_visible()
    expect(page.get_by_text("Accepted", exact=True)).to_be_visible()
    assert visitor.complaints == []


def test_promote_and_roll_back_ask_first(visitor: Visitor) -> None:
    page = visitor.page
    visitor.sign_in(OPERATOR, PASSWORD)
    page.goto("/adapters?search=OEM")
    page.get_by_role("link", name="poems").click()
    for _ in range(2):  # the two versions one after the other
        page.get_by_role("button", name="Promote").last.click()
        assert visitor.violations() == []
        button(page, "Promote to prod")
        expect(page.get_by_role("dialog")).to_be_hidden()
    row = page.get_by_role("row", name=re.compile("^prod"))
    expect(row).to_contain_text("version 2")
    page.get_by_role("button", name="Roll back").click()
    expect(page.get_by_role("dialog")).to_contain_text("It will name version 1")
    button(page, "Roll back prod")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(row.get_by_role("cell").nth(1)).to_have_text("version 1")
    page.goto("/adapters?search=nothing-of-it")
    expect(page.get_by_text("No adapter matches")).to_be_visible()
    assert visitor.complaints == []


def test_the_playground_streams_and_stops(visitor: Visitor, served: Serve) -> None:
    page = visitor.page
    visitor.sign_in(OPERATOR, PASSWORD)
    page.goto("/playground?model=poems@1")

    def endless(route: Route) -> None:
        """A random model may end an answer at any token, and this one has to last."""
        sent = route.request.post_data_json
        assert isinstance(sent, dict)
        route.continue_(post_data=json.dumps({**sent, "ignore_eos": True}))

    page.route("**/playground/completions*", endless)
    page.get_by_text("Completion", exact=True).click()
    page.get_by_label("Prompt").fill("the sea")
    page.get_by_label("Most tokens").fill("8")
    button(page, "Run")
    expect(page.get_by_text("Complete", exact=True)).to_be_visible()
    expect(page.get_by_text("8 tokens", exact=True).last).to_be_visible()
    assert visitor.violations() == []
    page.get_by_label("Most tokens").fill("16000")
    button(page, "Run")
    expect(page.get_by_test_id("answer")).to_have_text(re.compile(r"\S.{20,}", re.DOTALL))
    button(page, "Stop")
    expect(page.get_by_text("Stopped", exact=True)).to_be_visible()
    served.wait(served.is_idle)  # the engine works on it no more
    assert visitor.complaints == []
    page.goto("/requests")
    expect(page.get_by_role("cell", name="cancelled")).to_be_visible()
    page.get_by_role("button", expanded=False).last.click()
    expect(page.get_by_text("Answer written")).to_be_visible()
    assert visitor.violations() == []
    page.goto("/usage")
    expect(page.get_by_role("row", name=re.compile("^poems"))).to_be_visible()
    assert visitor.complaints == []


def test_a_key_is_shown_once_works_and_is_revoked(visitor: Visitor, served: Serve) -> None:
    page = visitor.page
    visitor.sign_in(OPERATOR, PASSWORD)
    page.get_by_role("link", name="Keys").click()
    button(page, "Create key")
    page.get_by_label("Name").fill("ci")
    button(page, "Create")
    secret = page.get_by_text(re.compile("^lpx_live_")).inner_text()
    assert visitor.violations() == []
    headers = {"authorization": f"Bearer {secret}"}
    with httpx.Client(base_url=served.url, headers=headers, trust_env=False) as client:
        models = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert {"poems", "poems@prod"} <= set(models)
        button(page, "Done")
        expect(page.get_by_text(secret)).to_have_count(0)
        button(page, "Revoke")
        page.get_by_label("Type ci to confirm").fill("ci")
        button(page, "Revoke key")
        expect(page.get_by_text("Revoked")).to_be_visible()
        assert client.get("/v1/models").status_code == 401
    assert visitor.complaints == []


def test_a_viewer_sees_and_cannot_change(visitor: Visitor, served: Serve) -> None:
    join(served, VIEWER, "viewer", "Vera")
    page = visitor.page
    visitor.sign_in(VIEWER, PASSWORD)
    names = page.get_by_role("navigation", name="Pages").get_by_role("link").all_inner_texts()
    assert names == ["Overview", "Adapters", "Requests", "Usage", "Limits", "Settings"]
    page.goto("/adapters/poems")
    expect(page.get_by_role("row", name=re.compile("^prod"))).to_be_visible()
    for name in ("Promote", "Roll back", "Upload adapter"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    for path, text in (
        ("/upload", "Your role does not allow this"),
        ("/keys", "Your role does not allow this"),
        ("/playground", "You cannot run models here"),
    ):
        page.goto(path)
        expect(page.get_by_text(text)).to_be_visible()
    # What the page hides the server refuses as well.
    refused = page.evaluate(
        """async () => {
            const { csrf_token } = await (await fetch("/api/v1/session")).json();
            const answers = await Promise.all([
                fetch("/api/v1/playground/completions", { method: "POST", headers: { "x-csrf-token": csrf_token },
                    body: JSON.stringify({ model: "poems", prompt: "a" }) }),
                fetch("/api/v1/adapters/poems/aliases/prod", { method: "PUT",
                    headers: { "x-csrf-token": csrf_token }, body: JSON.stringify({ version: 2 }) }),
            ]);
            return answers.map((answer) => answer.status);
        }"""
    )
    assert refused == [403, 403]
    visitor.expect_refusal()
    assert visitor.complaints == []


PAGES = (
    "overview",
    "adapters",
    "adapters/poems",
    "upload",
    "playground",
    "requests",
    "usage",
    "keys",
)


def test_every_page_is_sound_on_desks_and_phones_in_light_and_dark(visitor: Visitor) -> None:
    page = visitor.page
    visitor.sign_in(OPERATOR, PASSWORD)
    faults = []
    for path in (*PAGES, "tenants", "audit", "settings"):
        page.goto(f"/{path}")
        page.get_by_role("heading", level=1).wait_for()
        expect(page.get_by_label("Loading")).to_have_count(0)
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
            faults += [f"{scheme} {path}: {fault}" for fault in visitor.violations()]
            wide = page.evaluate("document.documentElement.scrollWidth")
            if wide > width:
                faults.append(f"{path} is {wide} pixels wide")
    assert faults == []
    assert visitor.complaints == []


def test_signing_out_ends_the_session(visitor: Visitor) -> None:
    page = visitor.page
    visitor.sign_in(OPERATOR, PASSWORD)
    button(page, "Sign out")
    page.wait_for_url("**/sign-in*")
    page.goto("/keys")
    page.wait_for_url("**/sign-in*")
    assert page.evaluate("fetch('/api/v1/session').then((answer) => answer.status)") == 401
    visitor.expect_refusal()
    assert visitor.complaints == []
