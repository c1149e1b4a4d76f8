"""Owns answering golden prompts: the engine's usual way, at the lowest priority, for nobody's account."""

from uuid import UUID

import msgspec

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.defaults import with_defaults
from loraplex.platform.catalog.golden import chat_of
from loraplex.platform.catalog.resolve import Resolver
from loraplex.platform.engines.generation import Job
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.inference.params import completion_params
from loraplex.platform.inference.prompts import encode, read_prompts, tokenizer_of
from loraplex.platform.inference.schemas import CompletionRequest
from loraplex.platform.inference.service import Target, render
from loraplex.platform.inference.templates import Templates
from loraplex.platform.tenants.shares import Shares

LAST = 1000  # the priority behind which there is none


class Greedy:
    """Implements `catalog.golden_checks.Answers`."""

    def __init__(
        self, resolver: Resolver, engines: EnginePool, templates: Templates, shares: Shares
    ) -> None:
        self._resolver = resolver
        self._engines = engines
        self._templates = templates
        self._shares = shares

    async def greedy(
        self, tenant_id: UUID, model: str, prompt: dict[str, object], max_tokens: int
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
        generation = await base.client.generate([job])
        try:
            (delta,) = await generation.collect()
        finally:
            generation.close()
        return delta.text

    async def _ids(self, target: Target, prompt: dict[str, object]) -> tuple[int, ...]:
        model, context = target.base.model, target.context
        if "messages" not in prompt:
            field = msgspec.convert(prompt["prompt"], str | list[int])
            (read,) = await read_prompts(field, model, echo=False, n=1, context=context)
            return read.ids
        text = await render(self._templates, target, chat_of(prompt["messages"]))
        (ids,) = await encode(tokenizer_of(model), [text], special=False, context=context)
        return tuple(ids)


def _params(target: Target, max_tokens: int) -> SamplingParams:
    request = CompletionRequest(model="", temperature=0.0, max_tokens=max_tokens)
    return completion_params(with_defaults(request, target.defaults))
