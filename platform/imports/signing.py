"""Owns signed URLs of S3 (Signature Version 4 in the query). Written here because the clients for S3 choose address,
proxy and, where none were given, credentials themselves: a tenant's import would read with the server's own rights."""

import hashlib
import hmac
from datetime import datetime
from typing import NamedTuple
from urllib.parse import quote, urlsplit

LIFETIME = 3600  # seconds; each request is signed anew
_ALGORITHM = "AWS4-HMAC-SHA256"


class Credentials(NamedTuple):
    """Of somebody at S3; `session_token` comes with temporary ones."""

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


def signed_url(url: str, region: str, credentials: Credentials, now: datetime) -> str:
    """A URL with which its object can be read for an hour.

    Args:
        url: without a query, its path escaped as S3 does: all but letters, digits and `-_.~/`.
    """
    parts = urlsplit(url)
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    fields = {
        "X-Amz-Algorithm": _ALGORITHM,
        "X-Amz-Credential": f"{credentials.access_key_id}/{scope}",
        "X-Amz-Date": moment,
        "X-Amz-Expires": str(LIFETIME),
        "X-Amz-SignedHeaders": "host",
    }
    if credentials.session_token:
        fields["X-Amz-Security-Token"] = credentials.session_token
    query = "&".join(
        f"{name}={quote(value, safe='-_.~')}" for name, value in sorted(fields.items())
    )
    request = f"GET\n{parts.path}\n{query}\nhost:{parts.netloc}\n\nhost\nUNSIGNED-PAYLOAD"
    digest = hashlib.sha256(request.encode()).hexdigest()
    key = f"AWS4{credentials.secret_access_key}".encode()
    for word in (moment[:8], region, "s3", "aws4_request"):
        key = _hmac(key, word)
    signature = _hmac(key, f"{_ALGORITHM}\n{moment}\n{scope}\n{digest}").hex()
    return f"{url}?{query}&X-Amz-Signature={signature}"


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
