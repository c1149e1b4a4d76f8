"""Keys where they do not belong are refused, and the form of keys is what the manual tells scanners."""

import re
import zlib
from pathlib import Path
from urllib.parse import quote

import pytest

from loraplex.platform.auth.keys import generate, holds_key
from support.services import OPERATOR, Api, bearer, sqlite_only

OPS = bearer(OPERATOR)
MANUAL = Path(__file__).parents[3] / "docs" / "operations.md"


@sqlite_only
async def test_a_key_in_a_url_is_refused(api: Api) -> None:
    token = generate().token
    escaped = "".join(f"%{byte:02x}" for byte in token.encode())
    for path in (
        f"/api/v1/tenants?key={token}",
        f"/api/v1/tenants?after={escaped}",
        f"/v1/models?api_key={quote(token)}",
        f"/api/v1/tenants/{token}",
        f"/health?key={token}",
    ):
        answer = await api.client.get(path, headers=OPS)
        body = answer.json()
        assert (answer.status_code, body.get("error", body)["code"]) == (400, "exposed_key"), path
        assert token not in answer.text
    fine = await api.client.get(f"/api/v1/tenants?after={token[:-1]}", headers=OPS)
    assert fine.status_code == 200


@sqlite_only
async def test_a_key_in_a_body_is_refused_and_stored_nowhere(api: Api) -> None:
    token = await api.tenant("acme")
    answer = await api.client.post(
        "/api/v1/tenants/acme/keys", json={"name": f"was {token}"}, headers=OPS
    )
    assert (answer.status_code, answer.json()["code"]) == (400, "exposed_key")
    assert token not in answer.text
    body = {"model": "tiny", "prompt": "x", "api_key": token}
    answer = await api.client.post("/v1/completions", json=body, headers=bearer(token))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "exposed_key")


def test_only_whole_keys_count() -> None:
    token = generate().token
    assert holds_key(f"see {token}.".encode())
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    for text in (wrong, token[:40], "lpx_live_", "ü" * 9):
        assert not holds_key(text.encode())


@pytest.mark.parametrize("text", ["KEY = '{}'", "Authorization: Bearer {}", "{}"])
def test_what_the_manual_tells_scanners_finds_keys(text: str) -> None:
    pattern = re.search(r"^lpx_live_\S*$", MANUAL.read_text(), re.MULTILINE)
    assert pattern is not None
    token = generate().token
    found = re.search(pattern[0], text.format(token))
    assert found is not None
    assert found[0] == token
    # The checksum as the manual words it.
    body, _, checksum = token.rpartition("_")
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    number = sum(digits.index(digit) * 62**place for place, digit in enumerate(reversed(checksum)))
    assert number == zlib.crc32(body.encode())
