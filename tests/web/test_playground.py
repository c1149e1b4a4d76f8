"""The playground and the limits it meets, in a real browser against a real server. The tests share the server's
adapters, which the first one uploads."""

import json
import re
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Route, expect

from support.pages import Visitor
from support.people import PASSWORD, Site

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def models(site: Site, adapter_dir: Path) -> list[str]:
    for name in ("poems", "haiku"):
        assert site.acme.push(name, adapter_dir).status_code == 201
    return ["poems@1", "haiku@1"]


def _endless(route: Route) -> None:
    """A random model may end an answer at any token, and this one has to last."""
    sent = route.request.post_data_json
    assert isinstance(sent, dict)
    route.continue_(post_data=json.dumps({**sent, "ignore_eos": True}))


def test_two_models_answer_side_by_side_and_stop(
    visitor: Visitor, site: Site, models: list[str]
) -> None:
    page = visitor.page
    visitor.sign_in(site.operator, PASSWORD)
    page.goto(f"/playground?mode=completion&model={','.join(models)}")
    page.route("**/playground/completions*", _endless)
    page.get_by_label("Prompt").fill("the sea")
    page.get_by_label("Token probabilities").uncheck()
    page.get_by_label("Most tokens").fill("16000")
    page.get_by_role("button", name="Run", exact=True).click()
    answers = page.get_by_test_id("answer")
    for place in range(2):
        expect(answers.nth(place)).to_have_text(re.compile(r"\S.{20,}", re.DOTALL))
    page.get_by_role("button", name="Stop poems@1").click()
    expect(page.get_by_text("Stopped", exact=True)).to_have_count(1)
    expect(page.get_by_role("button", name="Stop haiku@1")).to_be_visible()
    page.get_by_role("button", name="Stop all").click()
    expect(page.get_by_text("Stopped", exact=True)).to_have_count(2)
    site.serve.wait(site.serve.is_idle)
    assert visitor.complaints == []


def test_probabilities_are_told_and_the_copied_curl_answers_the_same(
    visitor: Visitor, site: Site, models: list[str]
) -> None:
    page = visitor.page
    visitor.sign_in(site.operator, PASSWORD)
    page.goto(f"/playground?mode=completion&model={models[0]},missing")
    page.get_by_label("Prompt").fill("it's the sea")
    page.get_by_label("Most tokens").fill("6")
    page.get_by_label("Temperature").fill("0")
    page.get_by_role("button", name="Run", exact=True).click()
    # One of the two is unknown, which does not keep the other from answering.
    expect(page.get_by_text("Complete", exact=True)).to_be_visible()
    expect(page.get_by_text("Failed", exact=True)).to_be_visible()
    visitor.expect_refusal()
    token = page.get_by_label("Tokens of the answer").get_by_role("button").first
    token.hover()
    likeliest = page.get_by_label("Likeliest tokens here").get_by_role("listitem")
    expect(likeliest).to_have_count(5)
    assert "%" in (page.get_by_test_id("token").locator("p").text_content() or "")
    expect(page.get_by_text("Inside the server")).to_be_visible()
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert visitor.violations() == []
    command = page.locator("pre").inner_text()
    ran = subprocess.run(
        ["bash", "-c", command.replace("curl ", "curl -s --noproxy '*' ", 1)],
        env={"PATH": "/usr/bin:/bin", "LORAPLEX_API_KEY": site.acme.key},
        capture_output=True,
        check=True,
        text=True,
    )
    expected = json.loads(ran.stdout)["choices"][0]["text"]
    assert page.get_by_test_id("answer").first.text_content() == expected
    assert visitor.complaints == []


def test_a_model_is_found_by_typing(visitor: Visitor, site: Site, models: list[str]) -> None:
    del models
    page = visitor.page
    visitor.sign_in(site.operator, PASSWORD)
    page.goto("/playground")
    page.get_by_label("Model", exact=True).fill("HAI")
    page.get_by_role("option", name="haiku").click()
    page.wait_for_url("**/playground?model=haiku")
    expect(page.get_by_label("Model", exact=True)).to_have_value("haiku")
    assert visitor.complaints == []


def test_a_limit_is_set_on_its_page_and_explained_where_it_is_reached(
    visitor: Visitor, site: Site, models: list[str]
) -> None:
    page = visitor.page
    visitor.sign_in(site.operator, PASSWORD)
    page.goto("/limits?adapter=haiku")
    panel = page.locator("section", has=page.get_by_role("heading", name="Adapter haiku"))
    expect(panel.get_by_text("No limit")).to_have_count(5)
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        assert visitor.violations() == []
    panel.get_by_role("button", name="Change").click()
    page.get_by_label("Requests per minute").fill("0")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(panel.get_by_text("No limit")).to_have_count(4)

    def refused() -> bool:
        answer = site.acme.complete(model="haiku", prompt="a", max_tokens=1)
        return answer.status_code == 429

    site.serve.wait(refused)  # workers learn of it within seconds
    page.goto(f"/playground?mode=completion&model={models[1]}")
    page.get_by_label("Prompt").fill("the sea")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("A limit was reached")).to_be_visible()
    visitor.expect_refusal()
    page.goto("/limits?adapter=haiku")
    panel.get_by_role("button", name="Remove all").click()
    page.get_by_role("button", name="Remove limits").click()
    expect(panel.get_by_text("No limit")).to_have_count(5)
    assert visitor.complaints == []


def test_viewers_see_limits_and_cannot_change_them(visitor: Visitor, site: Site) -> None:
    page = visitor.page
    visitor.sign_in(site.viewer, PASSWORD)
    page.goto("/limits")
    expect(page.get_by_text("Operators change this.")).to_be_visible()
    expect(page.get_by_text("No limit")).to_have_count(5)
    for name in ("Change", "Remove all", "Set price"):
        expect(page.get_by_role("button", name=name)).to_have_count(0)
    assert visitor.complaints == []
