"""Uploading in parts through a real browser: a connection that breaks off costs one part, not the upload."""

from pathlib import Path

from playwright.sync_api import Route, expect

from support.pages import Visitor
from support.people import PASSWORD, Site


def test_an_upload_goes_on_after_its_connection_broke_off(
    visitor: Visitor, site: Site, adapter_dir: Path
) -> None:
    page = visitor.page
    visitor.sign_in(site.operator, PASSWORD)
    page.goto("/upload")
    cut: list[str] = []

    def cut_once(route: Route) -> None:
        if route.request.method == "PUT" and not cut:
            cut.append(route.request.url)
            route.abort("connectionreset")
        else:
            route.continue_()

    page.route("**/api/v1/uploads/*", cut_once)
    files = [adapter_dir / name for name in ("adapter_config.json", "adapter_model.safetensors")]
    page.get_by_test_id("files").set_input_files(files)
    page.get_by_label("Name").fill("broken-off")
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_text("broken-off@1 can be used now")).to_be_visible()
    assert len(cut) == 1
    assert page.evaluate(
        "localStorage.length === 0 || !JSON.stringify(localStorage).includes('loraplex.upload')"
    )
    visitor.expect_refusal()
    assert visitor.violations() == []
    assert visitor.complaints == []
