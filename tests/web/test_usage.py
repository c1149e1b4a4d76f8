"""Usage and its file, in a real browser against a real server."""

import csv
import io
from pathlib import Path

import pytest
from playwright.sync_api import expect

from support.pages import Visitor
from support.people import PASSWORD, Site

pytestmark = pytest.mark.e2e
REQUESTS = 3


def test_what_was_used_is_shown_and_the_file_says_the_same(
    visitor: Visitor, site: Site, adapter_dir: Path
) -> None:
    price = {"input": 1000, "output": 2000}
    site.serve.operator.put(f"/api/v1/prices/{site.serve.base}", json=price).raise_for_status()
    budget = {"tokens_per_month": 1000, "cost_per_month": 5}
    site.serve.operator.put("/api/v1/tenants/acme/limits", json=budget).raise_for_status()
    assert site.acme.push("poems", adapter_dir).status_code == 201
    for _ in range(REQUESTS):
        asked = {"prompt": "the sea", "max_tokens": 4, "ignore_eos": True}
        site.acme.complete(model="poems", **asked).raise_for_status()

    def counted() -> bool:
        rows = site.acme.http.get("/api/v1/usage?group_by=adapter").json()["data"]
        return bool(sum(row["requests"] for row in rows) == REQUESTS)

    # Requests count shortly after they have ended.
    site.serve.wait(counted)
    page = visitor.page
    visitor.sign_in(site.operator, PASSWORD)
    page.goto("/usage?days=7")
    row = page.get_by_role("row").filter(has_text="poems")
    expect(row.get_by_role("cell").nth(1)).to_have_text(str(REQUESTS))
    cells = [text.replace(",", "") for text in row.get_by_role("cell").all_inner_texts()]
    with page.expect_download() as downloading:
        page.get_by_role("link", name="CSV").click()
    lines = list(csv.DictReader(io.StringIO(downloading.value.path().read_text())))
    columns = ("requests", "errors", "prompt_tokens", "cached_tokens", "output_tokens")
    assert [str(sum(int(line[name]) for line in lines)) for name in columns] == cells[1:6]
    assert sum(float(line["cost"]) for line in lines) == pytest.approx(
        float(cells[6].split()[0]), abs=0.01
    )
    assert int(cells[5]) == 4 * REQUESTS
    expect(page.get_by_text("of 1,000")).to_be_visible()
    page.get_by_label("Stacked by").select_option("By key")
    page.wait_for_url("**by=key*")
    page.get_by_label("Whose").select_option("All tenants")
    page.get_by_label("Stacked by").select_option("By tenant")
    expect(page.get_by_role("row").filter(has_text="acme")).to_be_visible()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert visitor.violations() == []
    assert visitor.complaints == []
