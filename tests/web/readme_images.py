"""Makes the images of the dashboard that the README shows, from `loraplex demo`: `make readme-images`."""

import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, expect

from support.pages import Visitor, chromium

TARGET = Path(__file__).parents[2] / "docs" / "images"
SIGN_IN = re.compile(r"(http://\S+)/ +sign in as (\S+) with (\S+)")


def main() -> None:
    """Play the demo, look at it, end it."""
    command = [sys.executable, "-m", "loraplex", "demo", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout is not None
        try:
            found = next(filter(None, map(SIGN_IN.search, demo.stdout)))
            look(*found.groups())
        finally:
            demo.terminate()


def look(url: str, email: str, password: str) -> None:
    """Both images, as an owner of the tenant acme sees the pages."""
    with chromium() as browser:
        visitor = Visitor(browser, url)
        visitor.sign_in(email, password)
        page = visitor.page
        page.get_by_role("heading", name="Overview").wait_for()
        playground(page)
        page.screenshot(path=TARGET / "playground.png")
        page.goto("/overview")
        page.get_by_role("heading", level=1).wait_for()
        page.wait_for_timeout(5000)
        page.screenshot(path=TARGET / "overview.png")
        visitor.context.close()


def playground(page: Page) -> None:
    """Three adapters on one word."""
    page.goto("/playground?model=reverse,plural,spell&mode=completion")
    page.get_by_label("Prompt").fill("planet ->")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("Complete", exact=True)).to_have_count(3)


if __name__ == "__main__":
    main()
