"""Owns answering golden prompts: the engine's usual way, at the lowest priority. Whoever asks for a check pays for it
like for any request; checks that nobody asked for are on nobody's account."""

from dataclasses import replace
from functools import partial
from uuid import UUID, uuid4

import msgspec

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.defaults import with_defaults
from loraplex.platform.catalog.golden import chat_of
from loraplex.platform.catalog.resolve import Resolver
from loraplex.platform.engines.generation import Generation, Job
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.inference.chat_prompt import chat_prompt
from loraplex.platform.inference.params import completion_params
from loraplex.platform.inference.prompts import encode, read_prompts
from loraplex.platform.inference.schemas import CompletionRequest
from loraplex.platform.inference.target import Target
from loraplex.platform.inference.templates import Templates
from loraplex.platform.metering.account import Account
from loraplex.platform.metering.limits import Demand
from loraplex.platform.metering.service import Metering
from loraplex.platform.metering.work import Request
from loraplex.platform.metrics import Metrics
from loraplex.platform.tenants.shares import Shares

LAST = 1000  # the priority behind which there is none


class Greedy:
    """Implements `catalog.golden_checks.Answers`."""

    def __init__(
        self,
        resolver: Resolver,
        engines: EnginePool,
        templates: Templates,
        shares: Shares,
        metering: Metering,
        metrics: Metrics,
    ) -> None:
        self._resolver = resolver
        self._engines = engines
        self._templates = templates
        self._shares = shares
        self._metering = metering
        self._metrics = metrics

    async def greedy(
        self,
        tenant_id: UUID,
        model: str,
        prompt: dict[str, object],
        max_tokens: int,
        payer: str | None = None,
    ) -> str:
        """What `model` answers with temperature 0, its other defaults being used; see `Answers.greedy`."""
        resolved = await self._resolver.resolve(
            Principal(actor_id="golden", tenant_id=tenant_id), model
        )
        base = self._engines.for_base(resolved.base_name)
        target = Target(base, resolved.version, tenant_id, await self._shares.of(tenant_id))
        ids = await self._ids(target, prompt)
        params = _params(target, max_tokens)
        job = Job(ids, params, target.adapter, target.cache_salt, LAST, target.share)
        generation = await self._start(target, job, payer)
        try:
            (delta,) = await generation.collect()
        finally:
            generation.close()
        return delta.text

    async def _start(self, target: Target, job: Job, payer: str | None) -> Generation:
        client = target.base.client
        if payer is None:
            return await client.generate([job])
        reservation = await self._metering.reserve(_request(target, job, payer))
        account = Account(
            self._metering,
            reservation.id,
            1,
            1,
            client.acknowledge,
            partial(self._metrics.observe_answer, target.base.model.name),
        )
        try:
            return await client.generate(
                [replace(job, account=reservation.id.bytes)], account.settle
            )
        except BaseException as error:
            account.give_up(error)
            raise

    async def _ids(self, target: Target, prompt: dict[str, object]) -> tuple[int, ...]:
        model, context = target.base.model, target.context
        if "messages" not in prompt:
            field = msgspec.convert(prompt["prompt"], str | list[int])
            (read,) = await read_prompts(field, model, echo=False, n=1, context=context)
            return read.ids
        chat = await chat_prompt(self._templates, target.speaker, chat_of(prompt["messages"]))
        (ids,) = await encode(chat.tokenizer, [chat.text], special=False, context=context)
        return tuple(ids)


def _params(target: Target, max_tokens: int) -> SamplingParams:
    request = CompletionRequest(model="", temperature=0.0, max_tokens=max_tokens)
    return completion_params(with_defaults(request, target.defaults))


def _request(target: Target, job: Job, payer: str) -> Request:
    version, written = target.version, job.params.max_tokens
    assert version is not None
    return Request(
        target.tenant,
        payer,
        f"golden-{uuid4().hex}",
        "golden",
        target.base.model.name,
        Demand(len(job.prompt_ids), 1, written, written or 1),
        version.adapter_id,
        version.adapter,
        version.n,
        version.id,
        version.digest,
    )
