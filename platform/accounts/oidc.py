"""Owns what signing in by way of another provider speaks of. Apart from the provider itself, whose libraries are loaded
only where one is set."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class Identity:
    """Somebody as the provider knows them; `email` is verified by it."""

    subject: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class Journey:
    """What binds a browser's way to the provider to its way back; kept by the browser, in a cookie no script reads."""

    state: str
    nonce: str
    verifier: str
    redirect_uri: str
    next: str
    invitation: str = ""


@runtime_checkable  # Litestar checks what it hands over
class Provider(Protocol):
    """A provider that people sign in with."""

    async def address(self, journey: Journey) -> str:
        """Where to send the browser.

        Raises:
            ProviderUnavailableError: the provider does not answer, or not as one.
        """
        ...

    async def identify(self, journey: Journey, code: str) -> Identity:
        """Who came back with this code.

        Raises:
            AuthenticationError: the provider refuses the code, or its token does not hold.
            ProviderUnavailableError: as for `address`.
        """
        ...
