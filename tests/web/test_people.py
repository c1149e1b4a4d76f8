"""The dashboard of whoever manages a tenant: people who are invited, change roles and leave; and webhooks."""

import pytest
from playwright.sync_api import Browser, Page, expect

from support.pages import Visitor
from support.people import PASSWORD, Site

pytestmark = pytest.mark.e2e
GUEST = "guest@example.com"


def button(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_an_invitation_is_accepted_and_taken_away(
    browser: object, visitor: Visitor, site: Site
) -> None:
    assert isinstance(browser, Browser)
    page = visitor.page
    visitor.sign_in(site.operator, PASSWORD)
    page.get_by_role("link", name="Members", exact=True).click()
    expect(page.get_by_role("row", name=site.viewer)).to_be_visible()
    assert visitor.violations() == []
    button(page, "Invite somebody")
    page.get_by_label("E-mail").fill(GUEST)
    page.get_by_label("Role", exact=True).select_option("viewer")
    assert visitor.violations() == []
    button(page, "Make invitation")
    link = page.get_by_role("dialog").locator("pre").inner_text()
    assert link.startswith(f"{site.serve.url}/join#")
    button(page, "Done")
    expect(page.get_by_role("row", name=GUEST)).to_contain_text("viewer")

    guest = Visitor(browser, site.serve.url)
    guest.page.goto(link)
    guest.page.get_by_label("Your name").fill("Gus")
    guest.page.get_by_label("Password").fill(PASSWORD)
    assert guest.violations() == []
    button(guest.page, "Join")
    expect(guest.page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(guest.page.get_by_role("link", name="Members", exact=True)).to_have_count(0)
    guest.page.goto("/members")
    expect(guest.page.get_by_text("Your role does not allow this")).to_be_visible()
    refused = guest.page.request.get("/api/v1/tenants/acme/members")
    assert refused.status == 403

    page.reload()
    row = page.get_by_role("row", name=GUEST)
    page.get_by_label(f"Role of {GUEST}").select_option("admin")
    expect(page.get_by_label(f"Role of {GUEST}")).to_have_value("admin")
    expect(page.get_by_role("alert")).to_have_count(0)
    row.get_by_role("button", name="Remove").click()
    page.get_by_label(f"Type {GUEST} to confirm").fill(GUEST)
    button(page, "Remove member")
    expect(row).to_have_count(0)
    assert guest.page.request.get("/api/v1/tenants/acme/members").status in (401, 404)
    assert visitor.complaints == []
    assert guest.complaints == []
    guest.context.close()


def test_an_invitation_can_be_taken_back(visitor: Visitor, site: Site) -> None:
    page = visitor.page
    visitor.sign_in(site.operator, PASSWORD)
    page.goto("/members")
    button(page, "Invite somebody")
    page.get_by_label("E-mail").fill("nobody@example.com")
    button(page, "Make invitation")
    link = page.get_by_role("dialog").locator("pre").inner_text()
    button(page, "Done")
    page.get_by_role("button", name="Take back the invitation of nobody@example.com").click()
    expect(page.get_by_text("nobody@example.com")).to_have_count(0)
    button(page, "Sign out")
    page.wait_for_url("**/sign-in**")
    page.goto(link)
    page.get_by_label("Your name").fill("Ned")
    page.get_by_label("Password").fill(PASSWORD)
    button(page, "Join")
    expect(page.get_by_role("alert")).to_contain_text("code")
    visitor.expect_refusal()
    assert visitor.complaints == []


def test_a_forgotten_password_is_set_by_a_code(visitor: Visitor, site: Site) -> None:
    operator = site.serve.operator
    (user,) = operator.get("/api/v1/users", params={"email": site.viewer}).json()["data"]
    code = operator.post(f"/api/v1/users/{user['id']}/reset").json()["code"]
    page = visitor.page
    page.goto(f"/reset#{code}")
    expect(page.get_by_label("Code")).to_have_value(code)
    page.get_by_label("New password").fill("quite another sentence")
    assert visitor.violations() == []
    button(page, "Set password")
    expect(page.get_by_text("All sessions of the account have ended.")).to_be_visible()
    visitor.sign_in(site.viewer, "quite another sentence")
    assert visitor.complaints == []


def test_a_webhook_is_added_tried_and_deleted(visitor: Visitor, site: Site) -> None:
    page = visitor.page
    visitor.sign_in(site.operator, PASSWORD)
    page.goto("/webhooks")
    expect(page.get_by_text("No webhooks yet")).to_be_visible()
    button(page, "Add webhook")
    # Nobody listens there, and it is an address that no server of ours may be made to call.
    page.get_by_label("Address").fill("https://127.0.0.1:9/hook")
    button(page, "Add")
    expect(page.get_by_role("alert")).to_be_visible()
    visitor.expect_refusal()
    page.get_by_label("Address").fill("https://hooks.example.com/loraplex")
    page.get_by_label("A golden check fails").check()
    assert visitor.violations() == []
    button(page, "Add")
    secret = page.get_by_role("dialog").locator("pre").inner_text()
    assert len(secret) > 20
    button(page, "Done")
    expect(page.get_by_text("adapter.golden.failed")).to_be_visible()
    button(page, "Send a test")
    expect(page.get_by_text("webhook.test")).to_be_visible()
    button(page, "Body")
    expect(page.get_by_text('"type": "webhook.test"')).to_be_visible()
    assert visitor.violations() == []
    button(page, "New secret")
    expect(page.get_by_role("dialog").locator("pre")).not_to_have_text(secret)
    button(page, "Done")
    button(page, "Switch off")
    expect(page.get_by_text("Off since")).to_be_visible()
    button(page, "Delete")
    button(page, "Delete webhook")
    expect(page.get_by_text("No webhooks yet")).to_be_visible()
    assert visitor.complaints == []
