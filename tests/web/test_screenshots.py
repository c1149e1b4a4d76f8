"""Images of every page, light and dark, to be looked at: `make screenshots`."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from support.pages import Visitor
from support.people import PASSWORD, Site

PAGES = (
    "overview",
    "adapters",
    "adapters/poems",
    "upload",
    "playground",
    "requests",
    "usage",
    "keys",
    "members",
    "webhooks",
    "limits",
)
TARGET = Path(__file__).parents[2] / "build" / "screenshots"
pytestmark = [pytest.mark.e2e, pytest.mark.soak]


def test_images(browser: object, site: Site, adapter_dir: Path) -> None:
    assert isinstance(browser, Browser)
    tenant = site.acme
    for name in ("poems", "poems", "haiku", "support-replies"):
        assert tenant.push(name, adapter_dir, alias="prod").status_code == 201
    for model in ("poems", "haiku", "poems@1", "support-replies") * 6:
        tenant.complete(model=model, prompt="the sea", max_tokens=64, ignore_eos=True)
    TARGET.mkdir(parents=True, exist_ok=True)
    for scheme, width in (("light", 1280), ("dark", 1280), ("light", 390)):
        visitor = Visitor(browser, site.serve.url, width, scheme)
        page = visitor.page
        page.goto("/sign-in")
        page.get_by_role("button", name="Sign in").wait_for()
        page.screenshot(path=TARGET / f"sign-in-{scheme}-{width}.png")
        visitor.sign_in(site.operator, PASSWORD)
        for path in (*PAGES, "tenants", "audit", "settings"):
            page.goto(f"/{path}")
            page.get_by_role("heading", level=1).wait_for()
            expect(page.get_by_label("Loading")).to_have_count(0)
            if path == "overview":
                tenant.complete(model="poems", prompt="the sea", max_tokens=900, ignore_eos=True)
                page.wait_for_timeout(3000)
            if path == "playground":
                page.get_by_text("Completion", exact=True).click()
                page.get_by_label("Prompt").fill("the sea")
                page.get_by_role("button", name="Run").click()
                expect(page.get_by_text("Complete", exact=True)).to_be_visible()
            if path == "requests":
                page.get_by_role("button", expanded=False).nth(2).click()
            name = f"{path.replace('/', '-')}-{scheme}-{width}.png"
            page.screenshot(path=TARGET / name, full_page=True)
        visitor.context.close()
