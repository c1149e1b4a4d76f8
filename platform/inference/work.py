"""Owns what a request wants of an engine, and what of it limits, traces and the engine are told."""

from collections.abc import Sequence
from typing import NamedTuple

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.auth.principal import Principal
from loraplex.platform.engines.generation import Job
from loraplex.platform.inference.answer import Heading
from loraplex.platform.inference.params import choices
from loraplex.platform.inference.target import Target
from loraplex.platform.metering.limits import Demand
from loraplex.platform.metering.work import Request


class Work(NamedTuple):
    """What a request wants of an engine."""

    endpoint: str
    heading: Heading
    prompts: Sequence[tuple[int, ...]]
    params: SamplingParams
    n: int
    priority: int


def traced(target: Target, work: Work) -> dict[str, str]:
    """What a trace says of a generation: names, and nothing that was asked or answered."""
    known = {
        "gen_ai.operation.name": work.endpoint,
        "gen_ai.response.id": work.heading.id,
        "loraplex.tenant": str(target.tenant),
        "loraplex.base_model": target.base.model.name,
    }
    return known if target.version is None else {**known, "loraplex.version": target.version.model}


def request_of(principal: Principal, target: Target, work: Work) -> Request:
    """What the ledger and the limits are told of it."""
    base, version = target.base.model, target.version
    # Before the engine has told, what the model itself can.
    context = target.context or base.config.max_position
    wanted = work.params.max_tokens
    demand = Demand(
        prompt_tokens=sum(map(len, work.prompts)),
        answers=len(work.prompts) * work.n,
        # What asks for more the engine refuses, and says why; until then it must neither look like a matter of limits
        # nor be more than the columns hold.
        max_tokens=None if wanted is None else min(wanted, context),
        room=context - max(map(len, work.prompts)),
        batch=principal.batch is not None,
    )
    request = Request(
        target.tenant, principal.actor_id, work.heading.id, work.endpoint, base.name, demand
    )._replace(batch_id=principal.batch)
    if version is None:
        return request
    return request._replace(
        adapter_id=version.adapter_id,
        adapter=version.adapter,
        version=version.n,
        version_id=version.id,
        digest=version.digest,
    )


def counting(principal: Principal, target: Target, endpoint: str) -> Request:
    """What the ledger and the limits are told of a request that no engine sees: it has no tokens."""
    model = target.base.model
    heading = Heading.new("count_", model.name, model.config.fingerprint)
    none = Work(endpoint, heading, [()], SamplingParams(max_tokens=0), 1, 0)
    return request_of(principal, target, none)


def jobs_of(target: Target, work: Work, account: bytes) -> list[Job]:
    """Its generations; `account` is the ledger row they are settled on."""
    adapter, salt, share = target.adapter, target.cache_salt, target.share
    return [
        Job(prompt, choice, adapter, salt, work.priority, share, account, at)
        for at, prompt in enumerate(work.prompts)
        for choice in choices(work.params, work.n)
    ]
