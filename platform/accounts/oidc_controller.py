"""Owns the two routes of signing in by way of another provider: there, and back."""

import base64
import secrets
from typing import Annotated, Any

import msgspec
from litestar import Controller, Request, get
from litestar.datastructures import State
from litestar.di import NamedDependency, Provide
from litestar.exceptions import ValidationException
from litestar.params import QueryParameter
from litestar.response import Redirect

from loraplex.platform.accounts.answers import NO_STORE, opened_cookie, provide_visitor
from loraplex.platform.accounts.cookies import JOURNEY, cookie, read_cookie
from loraplex.platform.accounts.edge import Edge
from loraplex.platform.accounts.oidc import Journey, Provider
from loraplex.platform.accounts.oidc_sign_in import OidcSignIn
from loraplex.platform.accounts.sign_in import Visitor
from loraplex.platform.auth.middleware import ANONYMOUS
from loraplex.platform.errors import AuthenticationError, BadRequestError, NotFoundError
from loraplex.platform.nul import refuse_nul

# Somebody may have to find a second factor first.
JOURNEY_SECONDS = 600
BACK = "/api/v1/session/oidc/callback"
Text = Annotated[str, QueryParameter(max_length=2048)]


class OidcController(Controller):
    """Open to all, if a provider is set."""

    path = "/api/v1/session/oidc"
    tags = ("session",)
    opt = ANONYMOUS
    security = ({},)
    guards = (refuse_nul,)
    dependencies = {"visitor": Provide(provide_visitor, sync_to_thread=False)}  # noqa: RUF012 - Litestar's own form

    @get(operation_id="StartOidc", status_code=303)
    async def start(
        self,
        request: Request[Any, Any, State],
        visitor: NamedDependency[Visitor],
        edge: NamedDependency[Edge],
        oidc: NamedDependency[Provider | None],
        invitation: Text = "",
        next_page: Annotated[str, QueryParameter(name="next", max_length=2048)] = "/",
    ) -> Redirect:
        """To the provider. `next` is the page of ours to come back to, `invitation` a code to use there."""
        provider = _require(oidc)
        journey = Journey(
            state=secrets.token_urlsafe(32),
            nonce=secrets.token_urlsafe(32),
            verifier=secrets.token_urlsafe(48),
            redirect_uri=edge.base_url(request.scope) + BACK,
            next=_own_page(next_page),
            invitation=invitation,
        )
        kept = base64.urlsafe_b64encode(msgspec.json.encode(journey)).decode().rstrip("=")
        secure = edge.is_secure(request.scope)
        return Redirect(
            await provider.address(journey),
            status_code=303,
            headers=NO_STORE,
            cookies=[cookie(JOURNEY, kept, JOURNEY_SECONDS, secure=secure)],
        )

    @get("/callback", operation_id="FinishOidc", status_code=303)
    async def finish(
        self,
        request: Request[Any, Any, State],
        visitor: NamedDependency[Visitor],
        edge: NamedDependency[Edge],
        oidc: NamedDependency[Provider | None],
        oidc_sign_in: NamedDependency[OidcSignIn],
        code: Text = "",
        of_state: Annotated[str, QueryParameter(name="state", max_length=2048)] = "",
        error: Text = "",
    ) -> Redirect:
        """Back from the provider: the answer sets the session's cookie and leads on."""
        provider = _require(oidc)
        secure = edge.is_secure(request.scope)
        journey = _journey(read_cookie(request.scope, JOURNEY, secure=secure))
        if journey is None or not secrets.compare_digest(journey.state.encode(), of_state.encode()):
            raise BadRequestError(
                "This sign-in was not begun in this browser, or too long ago; begin again.",
                code="invalid_state",
                param="state",
            )
        if error or not code:
            raise AuthenticationError(
                "The provider did not sign you in; begin again.", code="sign_in_refused"
            )
        identity = await provider.identify(journey, code)
        opened = await oidc_sign_in.open(visitor, identity, journey.invitation)
        gone = cookie(JOURNEY, "", 0, secure=secure)
        return Redirect(
            journey.next,
            status_code=303,
            headers=NO_STORE,
            cookies=[opened_cookie(request.scope, edge, opened), gone],
        )


def _require(provider: Provider | None) -> Provider:
    if provider is None:
        raise NotFoundError("Signing in by way of another provider is not set up here.")
    return provider


def _own_page(path: str) -> str:
    """Only a path of this host: a browser reads two slashes, or a backslash, as another one."""
    if not path.startswith("/") or path[1:2] in ("/", "\\") or not path.isprintable():
        raise BadRequestError("next: give a path of this host, such as /.", param="next")
    return path


def _journey(kept: str) -> Journey | None:
    try:
        raw = base64.urlsafe_b64decode(kept + "=" * (-len(kept) % 4))
        return msgspec.json.decode(raw, type=Journey)
    except (ValueError, msgspec.MsgspecError, ValidationException):
        return None
