"""Owns `SignedIn`, what is known of the user behind a session's token, and the principal this user is in a tenant."""

from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from loraplex.platform.auth.principal import Principal, Role


@dataclass(frozen=True, slots=True)
class TenantRole:
    """What a user is in one tenant."""

    tenant_id: UUID
    tenant_name: str
    role: Role


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """A user by a session that is valid now.

    Attributes:
        expires_at: when the session ends however much it is used.
        csrf_token: what requests that change something must repeat in a header.
    """

    session_id: UUID
    user_id: str
    email: str
    name: str
    is_operator: bool
    csrf_token: str
    created_at: datetime
    expires_at: datetime
    roles: tuple[TenantRole, ...]

    def principal(self, tenant: str | None, address: str) -> Principal:
        """The user in the tenant of this name; without a name in the only one, if there is only one. Operators stand
        above tenants, also those they are members of."""
        principal = Principal(
            actor_id=self.user_id,
            actor_name=self.email,
            is_operator=self.is_operator,
            is_user=True,
            address=address,
        )
        chosen = None if self.is_operator else self._role(tenant)
        if chosen is None:
            return principal
        return replace(
            principal,
            tenant_id=chosen.tenant_id,
            tenant_name=chosen.tenant_name,
            scopes=chosen.role.scopes,
            role=chosen.role,
        )

    def _role(self, tenant: str | None) -> TenantRole | None:
        if tenant is None:
            return self.roles[0] if len(self.roles) == 1 else None
        return next((role for role in self.roles if role.tenant_name == tenant), None)
