"""The rules of limits, without a database: sliding minutes, caps, advice, headers."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loraplex.platform.errors import LimitExceededError
from loraplex.platform.metering.admission import Grant, admit
from loraplex.platform.metering.limits import Demand, Limits, Price, Subject
from loraplex.platform.metering.meter import MeterState
from loraplex.platform.metering.standing import as_text, ratelimit_headers

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
TENANT = UUID(int=1)


def meter(kind: str = "tenant", used: Mapping[str, int] = MappingProxyType({})) -> MeterState:
    state = MeterState(Subject(kind, "x"), TENANT, month="2026-11")
    for name, value in used.items():
        setattr(state, name, value)
    return state


def grant(
    limits: Limits,
    demand: Demand,
    *,
    price: Price = Price(),  # noqa: B008  # immutable
    state: MeterState | None = None,
    now: datetime = NOW,
) -> Grant:
    """Ask, and count what is granted."""
    state = state or meter()
    state.advance(now)
    given = admit([(limits, state)], demand, price, None, now)
    state.running += 1
    state.add(now, requests=1, tokens=given.tokens, nanos=given.nanos)
    return given


steps = st.lists(
    st.tuples(
        st.floats(0, 30, allow_nan=False) | st.sampled_from([0.0, 4.999, 5.0, 59.999, 60.0, 65.0]),
        st.integers(0, 12),
        st.integers(0, 12),
        st.booleans(),
    ),
    max_size=60,
)


@given(steps, st.integers(0, 6), st.integers(0, 30), st.floats(0, 5))
def test_no_sixty_seconds_ever_hold_more_than_the_limits(
    steps: list[tuple[float, int, int, bool]], most_requests: int, most_tokens: int, offset: float
) -> None:
    limits = Limits(requests_per_minute=most_requests, tokens_per_minute=most_tokens)
    state, now = meter(), NOW + timedelta(seconds=offset)
    admitted: list[list[object]] = []  # moment, tokens that count
    for pause, prompt, output, settles in steps:
        now += timedelta(seconds=pause)
        demand = Demand(prompt, 1, output, 99)
        try:
            given = grant(limits, demand, state=state, now=now)
        except LimitExceededError as error:
            wait = error.retry_after
        else:
            wait = 0.0
        if wait is None:
            assert prompt + output > most_tokens or most_requests == 0
            continue
        if wait:
            # The advice is right: alone, it fits then.
            copy = MeterState(state.subject, TENANT, window=[list(part) for part in state.window])
            grant(limits, demand, state=copy, now=now + timedelta(seconds=wait))
            assert wait <= 65
            continue
        entry: list[object] = [now, given.tokens]
        admitted.append(entry)
        if settles:
            unused = output // 2
            state.add(now, requests=0, tokens=-unused, nanos=0)
            entry[1] = given.tokens - unused
        window = [tokens for at, tokens in admitted if at > now - timedelta(seconds=60)]  # type: ignore[operator]
        assert len(window) <= most_requests
        assert sum(window) <= most_tokens  # type: ignore[arg-type]


@given(steps)
def test_nothing_is_kept_out_for_longer_than_a_slot_too_long(
    steps: list[tuple[float, int, int, bool]],
) -> None:
    state, now, last = meter(), NOW, None
    for pause, *_ in steps:
        now += timedelta(seconds=pause)
        try:
            grant(Limits(requests_per_minute=1), Demand(1, 1, 1, 99), state=state, now=now)
        except LimitExceededError:
            assert last is not None
            assert now - last < timedelta(seconds=65)
        else:
            last = now


def test_a_clock_that_was_far_ahead_locks_nobody_out() -> None:
    state = meter()
    limits, demand = Limits(requests_per_minute=1), Demand(1, 1, 1, 99)
    grant(limits, demand, state=state, now=NOW + timedelta(hours=1))
    grant(limits, demand, state=state, now=NOW)
    with pytest.raises(LimitExceededError):
        grant(limits, demand, state=state, now=NOW - timedelta(seconds=30))


@pytest.mark.parametrize(
    ("limits", "used", "demand", "expected"),
    [
        # Nothing limits it: all there is room for.
        (Limits(requests_per_minute=9), {}, Demand(10, 1, None, 500), 500),
        # A quarter of the tightest limit, shared by its answers.
        (Limits(tokens_per_minute=800), {}, Demand(10, 1, None, 500), 200),
        (Limits(tokens_per_minute=800), {}, Demand(10, 4, None, 500), 50),
        (Limits(tokens_per_minute=800, tokens_per_month=400), {}, Demand(10, 1, None, 500), 100),
        (Limits(tokens_per_minute=800), {}, Demand(10, 1, None, 150), 150),
        # No more than is left.
        (Limits(tokens_per_month=400), {"month_tokens": 340}, Demand(10, 1, None, 500), 50),
        # What was said is not touched.
        (Limits(tokens_per_month=400), {}, Demand(10, 1, 390, 500), 390),
        (Limits(tokens_per_month=8), {}, Demand(1, 1, None, 500), 2),
        # Money: 10 for the prompt, 2 for each token of the answer.
        (Limits(cost_per_month_nanos=400), {}, Demand(10, 1, None, 500), 50),
        (
            Limits(cost_per_month_nanos=400),
            {"month_cost_nanos": 350},
            Demand(10, 1, None, 500),
            20,
        ),
    ],
)
def test_an_answer_without_max_tokens_is_capped(
    limits: Limits, used: dict[str, int], demand: Demand, expected: int
) -> None:
    given = grant(limits, demand, price=Price(1, 1, 2), state=meter(used=used))
    assert given.max_tokens == expected
    assert given.tokens == demand.prompt_tokens + demand.answers * expected


@pytest.mark.parametrize(
    ("limits", "used", "code", "retry", "says"),
    [
        (
            Limits(tokens_per_month=400),
            {"month_tokens": 380},
            "insufficient_quota",
            False,
            "20 are left",
        ),
        (
            Limits(cost_per_month_nanos=400),
            {"month_cost_nanos": 380},
            "insufficient_quota",
            False,
            "0.00000002 is left",
        ),
        (Limits(tokens_per_minute=10), {}, "rate_limit_exceeded", False, "lower max_tokens"),
        (Limits(max_concurrent=0), {}, "rate_limit_exceeded", False, "may run 0 requests"),
        (Limits(requests_per_minute=0), {}, "rate_limit_exceeded", False, "may send 0 requests"),
        (Limits(max_concurrent=2), {"running": 2}, "rate_limit_exceeded", True, "wait 1s"),
        # What waiting does not help comes first.
        (
            Limits(max_concurrent=2, tokens_per_month=400),
            {"running": 2, "month_tokens": 400},
            "insufficient_quota",
            False,
            "per month",
        ),
    ],
)
def test_a_refusal_says_which_limit_and_whether_to_come_back(
    limits: Limits, used: dict[str, int], code: str, retry: bool, says: str
) -> None:
    with pytest.raises(LimitExceededError, match=says) as refused:
        grant(limits, Demand(10, 1, None, 500), price=Price(1, 1, 2), state=meter(used=used))
    assert refused.value.code == code
    assert (refused.value.retry_after is not None) == retry


def test_the_headers_are_those_of_the_tightest_subject() -> None:
    tenant, key, adapter = meter(), meter("key"), meter("adapter")
    for own, tokens in ((tenant, 30), (key, 10), (adapter, 0)):
        own.add(NOW - timedelta(seconds=20), requests=1, tokens=tokens, nanos=0)
    limited = [
        (Limits(requests_per_minute=10, tokens_per_minute=100), tenant),
        (Limits(requests_per_minute=5, tokens_per_minute=90), key),
        (Limits(max_concurrent=5), adapter),
    ]
    assert ratelimit_headers(limited, NOW) == {
        "x-ratelimit-limit-requests": "5",
        "x-ratelimit-remaining-requests": "4",
        "x-ratelimit-reset-requests": "45s",
        "x-ratelimit-limit-tokens": "100",
        "x-ratelimit-remaining-tokens": "70",
        "x-ratelimit-reset-tokens": "45s",
    }
    assert ratelimit_headers(limited[2:], NOW) == {}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.0124, "12ms"), (1, "1s"), (4.02, "4.02s"), (60, "1m0s"), (360.5, "6m0.5s")],
)
def test_times_look_as_openai_writes_them(seconds: float, text: str) -> None:
    assert as_text(seconds) == text


def test_cached_tokens_can_cost_more_or_less_than_others() -> None:
    assert Price(5, 1, 7).cost(10, 4, 2) == 6 * 5 + 4 * 1 + 14
    assert Price(5, 1, 7).most(10, 2) == 50 + 14
    assert Price(1, 5, 7).most(10, 2) == 50 + 14


LINE = Demand(10, 1, 10, 100, batch=True)


def test_batches_leave_room_for_requests_that_somebody_waits_for() -> None:
    limits = Limits(requests_per_minute=1, tokens_per_minute=100, max_concurrent=4)
    state = meter(used={"running": 1})
    state.add(NOW, requests=1, tokens=20, nanos=0)
    # The one request of the minute is made, and a line is none.
    assert admit([(limits, state)], LINE, Price(), None, NOW).tokens == 20
    state.add(NOW, requests=0, tokens=20, nanos=0)
    assert (state.minute_requests, state.minute_tokens) == (1, 40)
    with pytest.raises(LimitExceededError, match="50 tokens per minute") as refused:
        admit([(limits, state)], LINE, Price(), None, NOW)
    assert refused.value.retry_after is not None
    state.running = 2
    with pytest.raises(LimitExceededError, match="2 requests at once"):
        admit([(limits, state)], Demand(1, 1, 1, 100, batch=True), Price(), None, NOW)
    # What never fits its part may have the whole, when nobody else uses it.
    large, rested = Demand(50, 1, 30, 100, batch=True), meter()
    assert admit([(limits, rested)], large, Price(), None, NOW).tokens == 80
    # Nothing is nothing for batches too, and one at a time is one.
    for none in (
        Limits(requests_per_minute=0),
        Limits(max_concurrent=0),
        Limits(tokens_per_minute=0),
    ):
        with pytest.raises(LimitExceededError) as refused:
            admit([(none, meter())], LINE, Price(), None, NOW)
    assert admit([(Limits(max_concurrent=1), meter())], LINE, Price(), None, NOW)
    # Budgets are spent alike.
    with pytest.raises(LimitExceededError) as refused:
        admit([(Limits(tokens_per_month=19), meter())], LINE, Price(), None, NOW)
    assert (refused.value.code, refused.value.retry_after) == ("insufficient_quota", None)


def test_tokens_of_a_batch_count_where_no_request_was_made() -> None:
    state = meter()
    state.add(NOW, requests=0, tokens=30, nanos=5)
    assert (state.minute_requests, state.minute_tokens, state.month_tokens) == (0, 30, 30)
    state.add(NOW, requests=0, tokens=-10, nanos=0)
    assert state.minute_tokens == 20
