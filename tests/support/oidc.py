"""Owns a small real OpenID Connect provider on loopback, which tests can make lie."""

import base64
import hashlib
import secrets
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import msgspec
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, OKPKey, RSAKey

CLIENT, SECRET = "loraplex-test", "a secret of 32 characters or more"


class OidcServer:
    """The provider.

    Attributes:
        claims: what the next token says, on top of what is right; None takes a claim away.
        signer: signs it; one of `keys` unless a test lies.
        algorithm: with which.
        keys: what it publishes.
    """

    def __init__(self) -> None:
        self.claims: dict[str, object] = {}
        self.signer: RSAKey | OctKey = _key("one")
        self.algorithm = "RS256"
        self.keys: list[OctKey | RSAKey | ECKey | OKPKey] = [self.signer]
        self.asked = 0
        self._codes: dict[str, dict[str, str]] = {}
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.issuer = f"http://127.0.0.1:{self._http.server_port}"

    def run(self) -> None:
        self._http.serve_forever(poll_interval=0.01)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def authorize(self, url: str) -> dict[str, str]:
        """What a browser brings back that was sent to `url` and signed in there."""
        assert url.startswith(self.issuer + "/authorize?")
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        assert asked["response_type"] == "code"
        assert asked["client_id"] == CLIENT
        assert asked["code_challenge_method"] == "S256"
        assert "openid" in asked["scope"].split()
        code = secrets.token_hex(8)
        self._codes[code] = asked
        return {"code": code, "state": asked["state"]}

    def token(self, form: dict[str, str], authorization: str) -> dict[str, object] | None:
        """The answer to a code, None if the request is not what it must be."""
        asked = self._codes.pop(form.get("code", ""), None)
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).decode().rstrip("=")
        if (
            asked is None
            or authorization != f"Basic {basic}"
            or challenge != asked["code_challenge"]
            or form.get("redirect_uri") != asked["redirect_uri"]
        ):
            return None
        claims: dict[str, object] = {
            "iss": self.issuer,
            "sub": "248289761001",
            "aud": CLIENT,
            "exp": int(time.time()) + 300,
            "iat": int(time.time()),
            "nonce": asked["nonce"],
            "email": "Ann@Example.com",
            "email_verified": True,
            "name": "Ann",
        }
        claims = {k: v for k, v in (claims | self.claims).items() if v is not None}
        header = {"alg": self.algorithm, "kid": self.signer.kid}
        signed = jwt.encode(header, claims, self.signer, algorithms=["RS256", "HS256"])
        return {"access_token": "x", "token_type": "Bearer", "id_token": signed}

    def rotate(self) -> None:
        """Sign with a key that nobody knows yet, and publish it."""
        self.signer = _key("two")
        self.keys = [self.signer]

    def answer(self, path: str) -> object:
        """What a GET answers."""
        if path == "/jwks":
            self.asked += 1
            return KeySet(self.keys).as_dict(private=False)
        assert path == "/.well-known/openid-configuration"
        return {
            "issuer": self.issuer,
            "authorization_endpoint": self.issuer + "/authorize",
            "token_endpoint": self.issuer + "/token",
            "jwks_uri": self.issuer + "/jwks",
        }


@contextmanager
def oidc_server() -> Generator[OidcServer]:
    """A running one."""
    server = OidcServer()
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def _key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


def _handler(server: OidcServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, server.answer(self.path))

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(raw).items()}
            answer = server.token(form, self.headers.get("authorization", ""))
            self._send(400 if answer is None else 200, answer or {"error": "invalid_grant"})

        def _send(self, status: int, body: object) -> None:
            raw = msgspec.json.encode(body)
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    return Handler
