"""Owns the cookies of signing in: the one that carries a session's token, and one for the way to another provider and
back. Over https their names begin with `__Host-`, which browsers accept from this very host alone; over plain http they
refuse such names, so there they have plain ones."""

from litestar.datastructures import Cookie
from litestar.types import Scope

SESSION, JOURNEY = "loraplex", "loraplex-oidc"


def read_cookie(scope: Scope, name: str, *, secure: bool) -> str:
    """A cookie of the request, empty if there is none."""
    name = _full(name, secure)
    for header, text in scope["headers"]:
        for pair in text.decode("latin-1").split(";") if header == b"cookie" else ():
            key, separator, value = pair.strip().partition("=")
            if separator and key == name:
                return value
    return ""


def cookie(name: str, value: str, max_age: int, *, secure: bool) -> Cookie:
    """A cookie for `max_age` seconds, which no script reads; 0 takes it away."""
    return Cookie(
        key=_full(name, secure),
        value=value,
        max_age=max_age,
        path="/",
        secure=secure,
        httponly=True,
        samesite="lax",
    )


def _full(name: str, secure: bool) -> str:
    return f"__Host-{name}" if secure else name
