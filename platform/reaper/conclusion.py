"""Owns what is written into the ledger row of a request whose API worker has died, from what the engine remembers."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from loraplex.platform.engines.messages import Final
from loraplex.platform.engines.outcome import LOST
from loraplex.platform.metering.account import GRAVEST_FIRST
from loraplex.platform.metering.settlement import REAPED, Settlement


class Orphan(NamedTuple):
    """A reserved row that nobody works on any more."""

    id: UUID
    base_model: str
    created_at: datetime
    choices: int
    worker_id: UUID | None = None


def conclude(orphan: Orphan, finals: Sequence[Final], now: datetime) -> Settlement:
    """Close a row. `finals`: what is known of its choices, in the order of their ends; nothing if nothing was handed
    over that anybody knows of, and then nothing is counted."""
    if not finals:
        seconds = max(0.0, (now - orphan.created_at).total_seconds())
        return Settlement(orphan.id, REAPED, LOST, 0, 0, 0, seconds)
    prompts: dict[int, Final] = {}
    for final in sorted(finals, key=_choice):
        prompts.setdefault(final.prompt, final)
    told = [final for final in finals if final.timings is not None]
    return Settlement(
        orphan.id,
        REAPED,
        min((final.finish_reason for final in finals), key=GRAVEST_FIRST.index),
        sum(final.prompt_tokens for final in prompts.values()),
        sum(final.cached_tokens for final in prompts.values()),
        sum(final.output_tokens for final in finals),
        max(final.seconds for final in finals),
        None,
        told[-1].timings if told else None,
        told[-1].evicted_by if told else None,
    )


def _choice(final: Final) -> int:
    return final.choice
