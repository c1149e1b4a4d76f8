"""Owns what an engine process counts for each adapter: requests and tokens, and which adapters metrics name."""

import heapq

from loraplex.platform.engines.messages import AdapterState, Traffic

# Series in metrics for single adapters. A scrape of them all takes some 10 kB; thousands would take the scraper down.
NAMED = 20


class Account:
    """One adapter: what was asked of it and handed over.

    Attributes:
        series: what of it stands under its own name in metrics, None if it was never among the busiest.
        told: what of it stands in some series.
    """

    __slots__ = (
        "identity",
        "output_tokens",
        "prompt_tokens",
        "requests",
        "series",
        "told",
        "unfinished",
    )

    def __init__(self, identity: str) -> None:
        self.identity = identity
        self.requests = self.prompt_tokens = self.output_tokens = self.unfinished = 0
        self.series: Traffic | None = None
        self.told = Traffic()

    def begin(self, prompt_tokens: int) -> None:
        """One more request."""
        self.unfinished += 1
        self.requests += 1
        self.prompt_tokens += prompt_tokens

    def end(self) -> None:
        """One request less."""
        self.unfinished -= 1

    @property
    def has_news(self) -> bool:
        """Whether `news` would be anything: of thousands, few are asked between two looks."""
        told = self.told
        return self.requests != told.requests or self.output_tokens != told.output_tokens

    def news(self) -> Traffic:
        """What stands in no series yet; from now on it does."""
        now = Traffic(self.requests, self.prompt_tokens, self.output_tokens)
        news = Traffic(*(new - old for new, old in zip(now, self.told, strict=True)))
        self.told = now
        return news


class TrafficBook:
    """Accounts by identity; as many as there are adapters that were asked for since the start.

    Attributes:
        other: the series of all adapters while they have none of their own. What happened counts for the series that
            its adapter had then, so no series shrinks when the busiest change.
    """

    def __init__(self) -> None:
        self.other = Traffic()
        self._accounts: dict[str, Account] = {}
        self._named: set[str] = set()

    def account(self, identity: str) -> Account:
        """The account of an adapter, opened when it is first asked for."""
        account = self._accounts.get(identity)
        if account is None:
            account = self._accounts[identity] = Account(identity)
        return account

    def unfinished(self, identity: str) -> int:
        """Requests of an adapter that have not ended."""
        account = self._accounts.get(identity)
        return 0 if account is None else account.unfinished

    def forget(self, identity: str) -> None:
        """The adapter is deleted: it is named nowhere any more."""
        account = self._accounts.pop(identity, None)
        if account is not None and identity not in self._named:
            self.other = _sum(self.other, account.news())
        self._named.discard(identity)

    def rank(self) -> None:
        """Bring the series up to date, and choose anew who has one: the adapters with most tokens so far."""
        for account in self._accounts.values():
            if not account.has_news:
                continue
            if account.identity in self._named:
                account.series = _sum(account.series or Traffic(), account.news())
            else:
                self.other = _sum(self.other, account.news())
        busiest = heapq.nlargest(NAMED, self._accounts.values(), key=_tokens)
        self._named = {account.identity for account in busiest}
        for account in busiest:
            account.series = account.series or Traffic()

    def identities(self) -> list[str]:
        """Every adapter that was asked for."""
        return list(self._accounts)

    def add_to(self, state: AdapterState) -> None:
        """Complete the state of an adapter by its traffic; `running` must be there."""
        account = self._accounts.get(state.identity)
        if account is None:
            return
        state.waiting = max(0, account.unfinished - state.running)
        state.requests = account.requests
        state.prompt_tokens = account.prompt_tokens
        state.output_tokens = account.output_tokens
        state.series = account.series if account.identity in self._named else None


def _sum(one: Traffic, two: Traffic) -> Traffic:
    return Traffic(*(a + b for a, b in zip(one, two, strict=True)))


def _tokens(account: Account) -> tuple[int, str]:
    return account.prompt_tokens + account.output_tokens, account.identity
