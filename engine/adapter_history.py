"""Owns what is known about adapters beyond their stay on the device: how much they are used and what a load costs."""

import math
from collections import OrderedDict
from collections.abc import Container
from dataclasses import dataclass

# Adapters remembered, about 300 bytes each. More than there are slots on a device.
_MAX_RECORDS = 16384
# Uses of all adapters together after which an adapter's own count for half: long enough to see that one out of
# thousands is used regularly, short enough to forget yesterday's favourites.
_HALF_LIFE = 8192
# Copying a 2 MiB page from pinned memory takes 40 to 50 µs.
_COPY_SECONDS = 50e-6


@dataclass(slots=True)
class AdapterRecord:
    """One adapter.

    Attributes:
        pages: what it takes on the device; 0 while unknown.
        uses: how often sequences took it, older uses counting less; as of the use number `used_at`.
        loads, evictions, hits: times it was brought to the device, was pushed out, and was there when wanted.
        load_seconds: what its loads to the host took in all.
        below_seconds: what the last one took; 0 if it was on the host.
        evicted_by: handle of the adapter that pushed it out last, `request.EVICTED_BY_KV`, None if nobody has.
        fresh: loaded, and not used yet.
    """

    pages: int = 0
    uses: float = 0.0
    used_at: int = 0
    loads: int = 0
    evictions: int = 0
    hits: int = 0
    load_seconds: float = 0.0
    below_seconds: float = 0.0
    evicted_by: int | None = None
    fresh: bool = False


class AdapterHistory:
    """Records by handle; those used longest ago are dropped when there are too many."""

    def __init__(self) -> None:
        self._records: OrderedDict[int, AdapterRecord] = OrderedDict()
        self._uses = 0

    def __getitem__(self, handle: int) -> AdapterRecord:
        """The record of an adapter, an empty one at first."""
        return self._records.setdefault(handle, AdapterRecord())

    def get(self, handle: int) -> AdapterRecord | None:
        return self._records.get(handle)

    def handles(self) -> list[int]:
        return list(self._records)

    def use(self, handle: int) -> None:
        """One more sequence takes the adapter."""
        record = self[handle]
        self._uses += 1
        record.uses = self._decayed(record) + 1
        record.used_at = self._uses
        record.hits += not record.fresh
        record.fresh = False
        self._records.move_to_end(handle)

    def worth(self, handle: int) -> float:
        """Seconds of loading that a page of the adapter saves, were it to be used again as often."""
        record = self[handle]
        per_page = _COPY_SECONDS + record.below_seconds / max(1, record.pages)
        return self._decayed(record) * per_page

    def trim(self, kept: Container[int]) -> None:
        """Drop the oldest records beyond the limit, those of `kept` adapters excepted."""
        while len(self._records) > _MAX_RECORDS:
            handle = next(iter(self._records))
            if handle in kept:
                self._records.move_to_end(handle)
            else:
                del self._records[handle]

    def forget(self, handle: int) -> None:
        self._records.pop(handle, None)

    def _decayed(self, record: AdapterRecord) -> float:
        return record.uses * math.exp2((record.used_at - self._uses) / _HALF_LIFE)
