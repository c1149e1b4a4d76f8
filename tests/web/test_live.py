"""What is live on the dashboard, and the requests behind it, in a real browser against a real server."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from support.checkpoints import peft_adapter
from support.pages import Visitor
from support.people import PASSWORD, Site

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def used(site: Site, tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """With two adapters that have answered."""
    for seed, name in enumerate(("poems", "haiku")):
        folder = tmp_path_factory.mktemp(name)
        peft_adapter(tiny, folder, rank=8, seed=seed, strength=1.0)
        assert site.acme.push(name, folder, alias="prod").status_code == 201
        answer = site.acme.complete(model=name, prompt="the sea", max_tokens=8, ignore_eos=True)
        assert answer.status_code == 200, answer.text
    return site


def test_the_overview_is_live_until_it_is_paused(visitor: Visitor, used: Site) -> None:
    page = visitor.page
    visitor.sign_in(used.operator, PASSWORD)
    state = page.get_by_test_id("stream")
    expect(state).to_have_text("Live")
    expect(page.get_by_role("img", name=re.compile("^Time to first token, ms"))).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("^haiku@1"))).to_be_visible()
    # The picture of memory names its parts to the keyboard as well.
    picture = page.get_by_role("slider", name="Parts of device memory")
    picture.focus()
    for _ in range(20):
        page.keyboard.press("ArrowLeft")
    part = page.get_by_test_id("arena-part")
    seen = {part.inner_text().split(":")[0]}
    for _ in range(5):
        page.keyboard.press("ArrowRight")
        seen.add(part.inner_text().split(":")[0])
    assert seen >= {"2 smaller adapters", "Free"}
    page.get_by_role("button", name="About Throughput").focus()
    expect(page.get_by_role("tooltip", name=re.compile("^Tokens per second"))).to_be_visible()
    assert visitor.violations() == []
    expect(page.get_by_role("heading", name="How requests ended")).to_be_visible()
    page.get_by_role("button", name="Pause").click()
    expect(state).to_have_text("Paused")
    page.get_by_role("button", name="Resume").click()
    expect(state).to_have_text("Live")
    assert visitor.complaints == []


def test_a_stream_that_breaks_is_said_to_be_stale_and_comes_back(
    visitor: Visitor, used: Site
) -> None:
    page = visitor.page
    visitor.sign_in(used.operator, PASSWORD)
    state = page.get_by_test_id("stream")
    expect(state).to_have_text("Live")

    def refuse(route: Route) -> None:
        route.abort()

    page.route("**/api/v1/events*", refuse)
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("button", name="Resume").click()
    expect(state).to_have_text("Stale, reconnecting")
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    page.unroute("**/api/v1/events*")
    expect(state).to_have_text("Live")
    expect(page.get_by_role("alert")).to_have_count(0)
    visitor.expect_refusal()


def test_the_stream_is_closed_while_the_page_is_hidden(visitor: Visitor, used: Site) -> None:
    page = visitor.page
    # What the browser says of itself: a headless one never hides a page.
    page.add_init_script(
        "window.hiddenNow = false;"
        "Object.defineProperty(document, 'hidden', {get: () => window.hiddenNow})"
    )
    visitor.sign_in(used.operator, PASSWORD)
    expect(page.get_by_test_id("stream")).to_have_text("Live")
    with page.expect_event("requestfailed", lambda request: "/events" in request.url):
        page.evaluate("hiddenNow = true; document.dispatchEvent(new Event('visibilitychange'))")
    with page.expect_request("**/api/v1/events*"):
        page.evaluate("hiddenNow = false; document.dispatchEvent(new Event('visibilitychange'))")
    assert visitor.complaints == []


def test_a_viewer_sees_its_tenant_and_no_engine(visitor: Visitor, used: Site) -> None:
    page = visitor.page
    visitor.sign_in(used.viewer, PASSWORD)
    expect(page.get_by_test_id("stream")).to_have_text("Live")
    expect(page.get_by_role("row", name=re.compile("^poems@1"))).to_be_visible()
    for absent in ("Device memory", "Since the engine's start", "HTTP errors by status"):
        expect(page.get_by_text(absent, exact=True)).to_have_count(0)
    assert visitor.complaints == []
    assert visitor.violations() == []


def test_requests_are_found_explained_and_linked_to(visitor: Visitor, used: Site) -> None:
    page = visitor.page
    visitor.sign_in(used.operator, PASSWORD)
    page.goto("/requests")
    page.get_by_label("Adapter").fill("haiku")
    expect(page).to_have_url(re.compile("adapter=haiku"))
    rows = page.get_by_role("button", expanded=False)
    expect(rows).to_have_count(1)
    page.get_by_label("Slower than, ms").fill("100000000")
    expect(page.get_by_text("No such requests")).to_be_visible()
    page.goto("/requests?adapter=haiku&every=true")
    expect(page.get_by_label("Whose")).to_have_value("every")
    expect(page.get_by_role("cell", name="acme", exact=True)).to_be_visible()
    rows.click()
    expect(page.get_by_test_id("why")).to_have_text(re.compile(r"^(It mostly|Most time).*\.$"))
    with page.expect_download() as download:
        page.get_by_role("link", name="Export CSV").click()
    table = Path(download.value.path()).read_text().splitlines()
    assert len(table) == 2
    assert "haiku" in table[1]
    assert visitor.violations() == []
    page.get_by_role("link", name="Open this request").click()
    expect(page.get_by_role("heading", name="haiku@1")).to_be_visible()
    page.reload()
    expect(page.get_by_text("Answer written")).to_be_visible()
    assert visitor.complaints == []
    assert visitor.violations() == []


def test_the_pages_are_readable_in_the_dark(browser: object, used: Site) -> None:
    assert isinstance(browser, Browser)
    visitor = Visitor(browser, used.serve.url, scheme="dark")
    visitor.sign_in(used.operator, PASSWORD)
    expect(visitor.page.get_by_test_id("stream")).to_have_text("Live")
    assert visitor.violations() == []
    visitor.page.goto("/requests")
    visitor.page.get_by_role("button", expanded=False).last.click()
    visitor.page.get_by_role("link", name="Open this request").click()
    expect(visitor.page.get_by_text("Answer written")).to_be_visible()
    assert visitor.violations() == []
    assert visitor.complaints == []
    visitor.context.close()
