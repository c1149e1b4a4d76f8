"""Owns looking at a running service from outside, as its clients see it."""

from urllib.parse import urlsplit

import httpx

from loraplex.platform.doctor.report import Check, failure, ok, warning

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PATIENCE_SECONDS = 5.0


def look_at_service(url: str, key: str | None) -> list[Check]:
    """What the service at `url` answers; with an operator's `key` also how its engines are."""
    try:
        with httpx.Client(base_url=url, timeout=PATIENCE_SECONDS) as client:
            client.get("/health").raise_for_status()
            return [_way(url), _ready(client), *([] if key is None else _engines(client, key))]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return [failure("service", f"{url} does not answer: {error or type(error).__name__}.")]
    except (ValueError, LookupError, AttributeError, TypeError):
        return [failure("service", f"What answers at {url} is not loraplex; check LORAPLEX_URL.")]


def _way(url: str) -> Check:
    parts = urlsplit(url)
    if parts.scheme == "https" or parts.hostname in LOOPBACK:
        return ok("service", f"{url} answers.")
    return warning("service", f"{url} answers without TLS: keys can be read on the way.")


def _ready(client: httpx.Client) -> Check:
    answer = client.get("/ready")
    if answer.status_code == 200:
        return ok("readiness", "It takes requests.")
    state = answer.json()
    missing = [name for name in ("engines", "database") if not state.get(name)]
    return failure("readiness", f"It takes no requests: {', '.join(missing)} not ready.")


def _engines(client: httpx.Client, key: str) -> list[Check]:
    answer = client.get("/api/v1/engine", headers={"authorization": f"Bearer {key}"})
    if answer.status_code != 200:
        return [
            warning("engines", f"The key given may not look at engines ({answer.status_code}).")
        ]
    checks = []
    for base, engine in answer.json().items():
        name = f"engine {base}"
        if engine["ready"]:
            checks.append(ok(name, f"{len(engine['adapters'])} adapters are known to it."))
        else:
            checks.append(failure(name, "It is not there; the log of serve says why."))
    return checks
