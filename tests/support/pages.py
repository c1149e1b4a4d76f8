"""Owns a real browser for tests of the dashboard: Chromium that notes whatever a page complains of, and the audit of
accessibility."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

WEB = Path(__file__).parents[2] / "web"
BUILT = (WEB / "dist" / "index.html").is_file()
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
# A loaded machine may take twenty times as long as a free one.
WAIT_MILLISECONDS = int(os.environ.get("LORAPLEX_TEST_WAIT_MILLISECONDS", "60000"))
# Where `playwright install` puts browsers, on Linux.
_PLAYWRIGHTS = Path.home() / ".cache" / "ms-playwright"
WHY_NOT = "needs the built dashboard and a browser: make web browser"


def can_run() -> bool:
    """Whether the dashboard was built and there is a browser. Where both are required, what is missing fails loudly."""
    if os.environ.get("LORAPLEX_BROWSER") == "required":
        return True
    found = shutil.which("chromium") is not None or _PLAYWRIGHTS.is_dir()
    return BUILT and AXE.is_file() and found


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser: the machine's own, else Playwright's."""
    expect.set_options(timeout=WAIT_MILLISECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


class Visitor:
    """Somebody in front of a browser of their own. `complaints` are errors of the console, of scripts and of the
    content policy, the last of which the console tells of too."""

    def __init__(
        self, browser: Browser, url: str, width: int = 1280, scheme: str = "light"
    ) -> None:
        self.context: BrowserContext = browser.new_context(
            base_url=url,
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            reduced_motion="reduce",
        )
        self.context.set_default_timeout(WAIT_MILLISECONDS)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "console",
            lambda line: self.complaints.append(line.text) if line.type == "error" else None,
        )

    def expect_refusal(self) -> None:
        """Browsers write answers with a status of 400 and more down as errors; this one was meant."""
        left = [line for line in self.complaints if "Failed to load resource" not in line]
        assert len(left) < len(self.complaints), self.complaints
        self.complaints[:] = left

    def sign_in(self, email: str, password: str) -> None:
        """Through the form."""
        self.page.goto("/sign-in")
        self.page.get_by_label("E-mail").fill(email)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Sign in").click()
        self.page.wait_for_url("**/overview")

    def violations(self) -> list[str]:
        """Serious faults of accessibility on the page as it is now."""
        self.page.evaluate(AXE.read_text())
        found = self.page.evaluate("axe.run()")
        return [
            f"{fault['id']}: {node['html'][:120]} {node['failureSummary'][:160]}"
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
            for node in fault["nodes"]
        ]
