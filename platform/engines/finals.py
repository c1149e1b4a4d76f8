"""Owns what an engine process remembers of generations that have ended, until somebody has written it down: of an API
worker that dies before it has settled a request this tells exactly what was sent to it."""

import logging
from collections.abc import Iterable

from loraplex.platform.engines.messages import Final

# Workers acknowledge within a second, so this many are only there when acknowledgements were lost: about 50 MB.
MAX_FINALS = 100_000

logger = logging.getLogger(__name__)


class FinalBook:
    """Ends of generations by the account they count for; an account may have several."""

    def __init__(self) -> None:
        self._finals: dict[bytes, list[Final]] = {}  # the oldest account first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, finals: Iterable[Final]) -> None:
        """Remember these; when there are too many, the oldest accounts are forgotten."""
        for final in finals:
            self.begin(final.account, final.choice)
            self._finals.setdefault(final.account, []).append(final)
            self._count += 1
        if self._count > MAX_FINALS:
            self._forget_oldest()

    def begin(self, account: bytes, choice: int) -> None:
        """A generation begins: if it began before and was given up, that end counts no more."""
        known = self._finals.get(account)
        if known is None:
            return
        kept = [final for final in known if final.choice != choice]
        self._count -= len(known) - len(kept)
        self._finals[account] = kept

    def acknowledge(self, accounts: Iterable[bytes]) -> None:
        """These are written down."""
        for account in accounts:
            self._count -= len(self._finals.pop(account, ()))

    def of(self, accounts: Iterable[bytes]) -> list[Final]:
        """What is known of these."""
        return [final for account in accounts for final in self._finals.get(account, ())]

    def _forget_oldest(self) -> None:
        forgotten = 0
        while self._count > MAX_FINALS:
            oldest = self._finals.pop(next(iter(self._finals)))
            self._count -= len(oldest)
            forgotten += len(oldest)
        logger.warning("%d ends of generations that nobody acknowledged are forgotten", forgotten)
