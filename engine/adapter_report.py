"""Owns what the engine tells about its adapters and their memory. Imports no torch, so that the service can use it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Tier(StrEnum):
    """Where the engine has an adapter; what it has not may be anywhere below."""

    DEVICE = "device"
    COPYING = "copying"  # from the host to the device
    HOST = "host"  # and waiting for room on the device
    LOADING = "loading"  # asked for
    ABSENT = "absent"


class AdapterReport(NamedTuple):
    """One adapter; counts since the engine started. A tuple, as thousands are made between two steps.

    Attributes:
        bytes: what it takes on the device; 0 while unknown.
        users: running sequences that use it.
        hits: requests that found it on the device, but for the first after each load.
        load_seconds: what bringing it to the host took in all.
        last_evicted_by: handle of the adapter that pushed it out last, or `request.EVICTED_BY_KV`.
    """

    handle: int
    tier: Tier
    bytes: int
    users: int
    loads: int
    evictions: int
    hits: int
    load_seconds: float
    pinned: bool
    last_evicted_by: int | None


@dataclass(frozen=True, slots=True)
class Purged:
    """What unloading an adapter has overwritten with zeros, before anybody else could read it.

    Attributes:
        pages: pages with its weights, also of stays on the device that had ended.
        blocks: KV blocks that were written for it.
        host: whether a host copy was given back.
    """

    handle: int
    pages: int
    blocks: int
    host: bool


class PinRefusedError(ValueError):
    """An adapter cannot be pinned; the message is fit for an operator."""
