"""Owns what several engine tests share: running with and without steps that overlap."""

import pytest

from loraplex.engine import lookahead


@pytest.fixture(params=[False, True], ids=["in turn", "ahead"])
def ahead(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Makes every engine of the test read each step before the next one, or run one step ahead, whatever its device."""
    chosen: bool = request.param
    monkeypatch.setattr(lookahead, "runs_ahead", lambda _: chosen)
    return chosen
