"""Owns who gets in by way of another provider: a user it signed in before, and the first time whoever brings an
invitation for the address it vouches for, or has an address in a domain that the operator trusts it with."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from loraplex.platform.accounts.codes import drop_codes
from loraplex.platform.accounts.invitations import InvitationService
from loraplex.platform.accounts.oidc import Identity
from loraplex.platform.accounts.sessions import Sessions
from loraplex.platform.accounts.sign_in import NewSession, SignIn, Visitor
from loraplex.platform.accounts.users import new_user
from loraplex.platform.db.audit import record
from loraplex.platform.db.database import Database
from loraplex.platform.db.models import User
from loraplex.platform.db.scope import EVERY_TENANT
from loraplex.platform.errors import AuthenticationError, ConflictError


class OidcSignIn:
    """Opens sessions for identities. `domains` are those after the @ whose people need no invitation."""

    def __init__(
        self,
        database: Database,
        sessions: Sessions,
        sign_in: SignIn,
        invitations: InvitationService,
        domains: Collection[str],
    ) -> None:
        self._database = database
        self._sessions = sessions
        self._sign_in = sign_in
        self._invitations = invitations
        self._domains = frozenset(domain.lower().lstrip("@") for domain in domains)

    async def open(self, visitor: Visitor, identity: Identity, invitation: str) -> NewSession:
        """Sign in, the first time with a new account, or in a trusted domain with that of the same e-mail address; its
        password, sessions and codes end then.

        Raises:
            AuthenticationError: not invited, disabled, or the address belongs to an account of another identity, or to
                any account and no trusted domain.
            BadRequestError, PermissionDeniedError: the invitation cannot be used, or is for another address.
            ConflictError: the user is a member already, or two first times met.
        """
        try:
            async with self._database.main.writing(EVERY_TENANT) as session:
                user = await _by_subject(session, identity.subject)
                if user is None:
                    user = await self._first_time(session, visitor, identity, bool(invitation))
                if user.disabled_at is not None:
                    raise _refused()
                if invitation:
                    await self._invitations.join(session, invitation, user, visitor)
                opened = await self._sign_in.open(session, user, visitor, "oidc")
        except IntegrityError as error:
            raise ConflictError("You are a member already; sign in without the code.") from error
        self._sessions.forget()
        return opened

    async def _first_time(
        self, session: AsyncSession, visitor: Visitor, identity: Identity, invited: bool
    ) -> User:
        trusted = identity.email.rpartition("@")[2] in self._domains
        # An invitation for another address is refused when it is used, and everything with it.
        if not (invited or trusted):
            raise _refused()
        by_email = select(User).where(User.email == identity.email).with_for_update()
        user = await session.scalar(by_email)
        if user is None:
            user = new_user(identity.email, identity.name[:100].replace("\0", ""))
            session.add(user)
        elif user.oidc_subject is not None:
            raise _refused()
        elif not trusted:
            # Whoever may invite into one tenant says nothing about what the account is in others.
            raise AuthenticationError(
                "This e-mail address has an account already; sign in with its password.",
                code="sign_in_refused",
            )
        else:
            # Nobody has checked that the address was theirs who chose the password.
            user.password_hash = None
            await self._sessions.end_all(session, user.id)
            await drop_codes(session, user.id)
        user.oidc_subject = identity.subject
        await session.flush()
        record(session, visitor.principal, "user.link", user.id, after={"email": user.email})
        return user


async def _by_subject(session: AsyncSession, subject: str) -> User | None:
    query = select(User).where(User.oidc_subject == subject).with_for_update()
    user: User | None = await session.scalar(query)
    return user


def _refused() -> AuthenticationError:
    return AuthenticationError(
        "There is no account for you here; ask an admin of your tenant for an invitation.",
        code="sign_in_refused",
    )
