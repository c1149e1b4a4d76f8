"""Owns judging the whole input of a batch before anything of it runs."""

import hashlib
from collections.abc import AsyncIterator
from typing import NamedTuple

from loraplex.platform.batches.lines import read_lines, read_request
from loraplex.platform.batches.schemas import BatchFault
from loraplex.platform.errors import BadRequestError

MAX_REQUESTS = 50_000
MAX_INPUT = 200 * 1024**2
MAX_FAULTS = 100  # that are told; who has more repairs a program, not a file


class Findings(NamedTuple):
    """How many requests there are, the model if all name the same, and what is wrong."""

    total: int
    model: str | None
    faults: list[BatchFault]


async def validate(source: AsyncIterator[bytes], endpoint: str) -> Findings:
    """Judge every line; stops at `MAX_FAULTS`."""
    try:
        return await _judge(source, endpoint)
    except BadRequestError as error:
        return Findings(0, None, [BatchFault(error.code, error.message)])


async def _judge(source: AsyncIterator[bytes], endpoint: str) -> Findings:
    faults: list[BatchFault] = []
    models: set[str] = set()
    # Hashes: 50,000 ids may be long.
    seen: dict[bytes, int] = {}
    total = 0
    async for line in read_lines(source):
        total += 1
        if total > MAX_REQUESTS:
            text = f"The file has more than {MAX_REQUESTS} requests; split it."
            faults.append(BatchFault("too_many_requests", text))
            break
        try:
            request, model = read_request(line, endpoint)
            name = hashlib.blake2b(request.custom_id.encode(), digest_size=16).digest()
            first = seen.setdefault(name, line.number)
            if first != line.number:
                raise BadRequestError(
                    f"custom_id is that of line {first}; each needs its own.",
                    param="custom_id",
                    code="duplicate_custom_id",
                )
            if len(models) < 2:  # more is not told
                models.add(model)
        except BadRequestError as error:
            faults.append(BatchFault(error.code, error.message, error.param, line.number))
            if len(faults) >= MAX_FAULTS:
                break
    if not total:
        faults.append(BatchFault("empty_file", "The file has no requests."))
    return Findings(total, models.pop() if len(models) == 1 else None, faults)
