"""Requests made up from the OpenAPI document: none is answered with a server error or with anything the document does
not describe. `make fuzz` makes many; here it is one for each operation and kind of key."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from loraplex.platform.settings import Settings
from support.api_server import Server, api_server
from support.services import OPERATOR, bearer

EXAMPLES = os.environ.get("LORAPLEX_FUZZ_EXAMPLES", "1")
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
# They would end the session that they come with, or use up what the throttle allows; their own tests are in accounts/.
# The stream of events does not end.
LEFT_OUT = "session|setup|password|invitations/accept|api/v1/events"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """One for each kind of key: what an operator may do ends other keys, its own as well."""
    with api_server(Settings(data_dir=tmp_path / "data")) as server:
        yield server


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scopes", [None, [], ["admin", "adapters", "usage"]])
def test_whatever_is_sent_is_answered_as_described(
    scopes: list[str] | None, server: Server, tmp_path: Path
) -> None:
    with httpx.Client(base_url=server.url, headers=bearer(OPERATOR)) as operator:
        operator.post("/api/v1/tenants", json={"name": "acme"})
        body = {"scopes": scopes} if scopes else {}
        made = operator.post("/api/v1/tenants/acme/keys", json=body)
    key = OPERATOR if scopes is None else made.json()["key"]
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("schemathesis")),
            "run",
            f"{server.url}/schema/openapi.json",
            f"--header=Authorization: Bearer {key}",
            f"--max-examples={EXAMPLES}",
            f"--checks={','.join(CHECKS)}",
            "--phases=fuzzing",
            f"--exclude-path-regex={LEFT_OUT}",
            "--generation-deterministic",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert "passed" in done.stdout
