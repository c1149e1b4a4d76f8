"""Owns whether what let a request in still would: streams live longer than sessions, keys and roles."""

from dataclasses import replace

from litestar.types import Scope

from loraplex.platform.accounts.cookies import SESSION, read_cookie
from loraplex.platform.accounts.edge import Edge, header
from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.auth.authenticator import Authenticator
from loraplex.platform.auth.middleware import signed_in_of
from loraplex.platform.auth.principal import Principal
from loraplex.platform.errors import AuthenticationError


class Standing:
    """Asks again what `AuthMiddleware` asked at the beginning. Answers are remembered for seconds there, so a question
    each second costs next to nothing."""

    def __init__(self, authenticator: Authenticator, sessions: Sessions, edge: Edge) -> None:
        self._authenticator = authenticator
        self._sessions = sessions
        self._edge = edge

    async def holds(self, scope: Scope, principal: Principal) -> bool:
        """Whether the session or key of a request is still good, with the same rights."""
        if signed_in_of(scope) is None:
            return await self._key_holds(scope, principal)
        token = read_cookie(scope, SESSION, secure=self._edge.is_secure(scope))
        found = await self._sessions.find(token)
        return found is not None and principal == found.user.principal(
            principal.tenant_name, principal.address
        )

    async def _key_holds(self, scope: Scope, principal: Principal) -> bool:
        try:
            now = await self._authenticator.authenticate(header(scope, b"authorization"))
        except AuthenticationError:
            return False
        return replace(now, address=principal.address) == principal
