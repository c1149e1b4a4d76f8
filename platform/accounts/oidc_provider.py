"""Owns talking to an OpenID Connect provider: what it offers, where browsers go to sign in, and what it says about who
came back, believed only as far as its signature, and what we asked it, go."""

import asyncio
import time
from collections.abc import Callable
from typing import Annotated
from urllib.parse import urlsplit

import httpx
import msgspec
from authlib.integrations.base_client import OAuthError  # type: ignore[import-untyped]  # ships no types
from authlib.integrations.httpx_client import (  # type: ignore[import-untyped]  # as above
    AsyncOAuth2Client,
)
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import Meta, Struct

from loraplex.platform.accounts.edge import LOOPBACK
from loraplex.platform.accounts.oidc import Identity, Journey
from loraplex.platform.accounts.schemas import Email
from loraplex.platform.errors import AuthenticationError, ProviderUnavailableError
from loraplex.platform.settings import SettingsError

# Keys change rarely; a token signed with one we do not know asks for them anew, at most this often.
REFRESH_SECONDS, RETRY_SECONDS = 3600.0, 30.0
TIMEOUT_SECONDS = 10.0
CLOCKS_DIFFER = 60  # seconds
# Signatures only: with HS256 whoever knows the client's secret could sign, with "none" anybody.
_ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]


class _Metadata(Struct):
    """What we need of a provider's own description."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    token_endpoint_auth_methods_supported: list[str] = []


class _Claims(Struct):
    """What we need of an ID token whose signature holds."""

    iss: str
    sub: Annotated[str, Meta(min_length=1, max_length=255, pattern=r"^[^\x00]*$")]
    aud: str | list[str]
    exp: float
    nonce: str
    iat: float = 0
    nbf: float = 0
    azp: str | None = None
    email: Email = ""
    email_verified: bool | str = False
    name: str = ""


class OidcProvider:
    """One provider, asked as one client.

    Raises:
        SettingsError: the issuer is no https URL.
    """

    def __init__(
        self,
        issuer: str,
        client_id: str,
        client_secret: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not _is_safe(issuer):
            raise SettingsError("--oidc-issuer must be a URL that begins with https://.")
        if not client_id:
            raise SettingsError("--oidc-issuer needs --oidc-client-id.")
        self._issuer = issuer
        self._client_id = client_id
        self._client_secret = client_secret
        self._clock = clock
        # Once: reading the authorities takes 60 ms in which nothing else runs.
        self._trusted = httpx.create_ssl_context()
        self._known: tuple[float, _Metadata, KeySet] | None = None
        self._asking = asyncio.Lock()

    async def address(self, journey: Journey) -> str:
        """Where to send the browser.

        Raises:
            ProviderUnavailableError: the provider does not answer, or not as one.
        """
        metadata, _ = await self._description(REFRESH_SECONDS)
        async with self._client(metadata, journey) as client:
            url, _ = client.create_authorization_url(
                metadata.authorization_endpoint,
                state=journey.state,
                nonce=journey.nonce,
                code_verifier=journey.verifier,
            )
        return str(url)

    async def identify(self, journey: Journey, code: str) -> Identity:
        """Who came back with this code.

        Raises:
            AuthenticationError: the provider refuses the code, or its token does not hold.
            ProviderUnavailableError: as for `address`.
        """
        metadata, _ = await self._description(REFRESH_SECONDS)
        async with self._client(metadata, journey) as client:
            try:
                answer = await client.fetch_token(
                    metadata.token_endpoint, code=code, code_verifier=journey.verifier
                )
            except OAuthError as error:
                raise _refused() from error
            except (httpx.HTTPError, ValueError) as error:
                raise _away() from error
        claims = await self._claims(str(answer.get("id_token", "")))
        self._check(claims, journey.nonce)
        return Identity(f"{claims.iss}|{claims.sub}", claims.email.strip().lower(), claims.name)

    async def _claims(self, token: str) -> _Claims:
        """Of a token signed with one of the provider's keys, perhaps one it has only just begun to use."""
        fault: Exception | None = None
        for age in (REFRESH_SECONDS, RETRY_SECONDS):
            _, keys = await self._description(age)
            try:
                decoded = jwt.decode(token, keys, algorithms=_ALGORITHMS)
                return msgspec.convert(decoded.claims, _Claims)
            except (JoseError, ValueError, msgspec.ValidationError) as error:
                fault = error
        raise _refused() from fault

    def _check(self, claims: _Claims, nonce: str) -> None:
        now = self._clock()
        audience = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        party = claims.azp if claims.azp is not None else self._client_id
        if not (
            claims.iss == self._issuer
            and self._client_id in audience
            and party == self._client_id
            and (len(audience) == 1 or claims.azp is not None)
            and claims.nonce == nonce
            and claims.exp > now - CLOCKS_DIFFER
            and max(claims.iat, claims.nbf) < now + CLOCKS_DIFFER
        ):
            raise _refused()
        if claims.email_verified not in (True, "true") or not claims.email:
            raise AuthenticationError(
                "The provider does not vouch for your e-mail address; verify it there first.",
                code="sign_in_refused",
            )

    async def _description(self, age: float) -> tuple[_Metadata, KeySet]:
        async with self._asking:
            if self._known is None or self._known[0] < self._clock() - age:
                self._known = (self._clock(), *await self._ask())
            return self._known[1:]

    async def _ask(self) -> tuple[_Metadata, KeySet]:
        url = self._issuer.rstrip("/") + "/.well-known/openid-configuration"
        try:
            async with httpx.AsyncClient(timeout=TIMEOUT_SECONDS, verify=self._trusted) as client:
                answer = await client.get(url)
                metadata = msgspec.json.decode(answer.raise_for_status().content, type=_Metadata)
                ends = (metadata.authorization_endpoint, metadata.token_endpoint, metadata.jwks_uri)
                # The description may be served by whoever holds the name; it must be that of this issuer.
                if metadata.issuer != self._issuer or not all(map(_is_safe, ends)):
                    raise _away()
                keys = await client.get(metadata.jwks_uri)
                return metadata, KeySet.import_key_set(keys.raise_for_status().json())
        except (
            httpx.HTTPError,
            httpx.InvalidURL,
            JoseError,
            ValueError,
            msgspec.MsgspecError,
        ) as error:
            raise _away() from error

    def _client(self, metadata: _Metadata, journey: Journey) -> AsyncOAuth2Client:
        methods = metadata.token_endpoint_auth_methods_supported
        basic = not methods or "client_secret_basic" in methods
        return AsyncOAuth2Client(
            self._client_id,
            self._client_secret,
            token_endpoint_auth_method="client_secret_basic" if basic else "client_secret_post",
            scope="openid email profile",
            redirect_uri=journey.redirect_uri,
            code_challenge_method="S256",
            timeout=TIMEOUT_SECONDS,
            verify=self._trusted,
        )


def _is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)


def _refused() -> AuthenticationError:
    return AuthenticationError(
        "The provider's answer does not hold; sign in again.", code="sign_in_refused"
    )


def _away() -> ProviderUnavailableError:
    return ProviderUnavailableError("The sign-in provider does not answer; try again later.")
