"""Owns the way of a request to an engine: model name to version, text to tokens, fields to jobs."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple
from uuid import UUID

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.defaults import Defaults, with_defaults
from loraplex.platform.catalog.resolve import ResolvedVersion
from loraplex.platform.catalog.service import CatalogService
from loraplex.platform.engines.generation import Job
from loraplex.platform.engines.messages import AdapterFile, TenantShare
from loraplex.platform.engines.outcome import Outcome
from loraplex.platform.engines.pool import EnginePool, ServedBase
from loraplex.platform.errors import BadRequestError, ModelNotFoundError
from loraplex.platform.inference.answer import (
    Answer,
    ChatWriter,
    CompletionWriter,
    Heading,
    Writer,
)
from loraplex.platform.inference.bodies import Model
from loraplex.platform.inference.chat_template import TemplateError, template_messages
from loraplex.platform.inference.checks import check_chat, check_completion
from loraplex.platform.inference.costs import Costs
from loraplex.platform.inference.params import chat_params, choices, completion_params
from loraplex.platform.inference.prompts import encode, read_prompts, tokenizer_of
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest, StreamOptions
from loraplex.platform.inference.templates import Templates
from loraplex.platform.metering.account import Account
from loraplex.platform.metering.limits import Demand
from loraplex.platform.metering.service import Metering
from loraplex.platform.metering.work import Request
from loraplex.platform.metrics import Metrics
from loraplex.platform.tenants.shares import Entitlement, Shares
from loraplex.platform.tracing.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Target:
    """What a model name stands for at this moment, for one tenant."""

    base: ServedBase
    version: ResolvedVersion | None
    tenant: UUID
    entitlement: Entitlement

    @property
    def share(self) -> TenantShare:
        """Whose turn the engine gives a request."""
        weight, max_running = self.entitlement
        limit = None if self.version is None else self.version.max_running
        return TenantShare(str(self.tenant), weight, max_running, limit)

    @property
    def adapter(self) -> AdapterFile | None:
        version = self.version
        if version is None:
            return None
        return AdapterFile(version.identity, version.weights_sha256, version.size, version.config)

    @property
    def defaults(self) -> Defaults | None:
        """What a request gets that leaves fields out."""
        return None if self.version is None else self.version.defaults

    @property
    def headers(self) -> dict[str, str]:
        """Which version answers: of a name, an alias or a split it can be one or another."""
        return {} if self.version is None else {"x-loraplex-version": self.version.model}

    @property
    def context(self) -> int | None:
        """The most tokens of a prompt and its answer, once the engine has told."""
        beat = self.base.client.beat
        return beat.max_model_len or None if beat is not None else None

    @property
    def cache_salt(self) -> bytes:
        """Only requests of one tenant for one version may share prefix-cache blocks."""
        digest = self.version.digest if self.version is not None else ""
        parts = (self.base.model.config.fingerprint, digest, str(self.tenant))
        return hashlib.sha256("\n".join(parts).encode()).digest()


class _Work(NamedTuple):
    """What a request wants of an engine, and how its answer is written down."""

    endpoint: str
    heading: Heading
    prompts: Sequence[tuple[int, ...]]
    params: SamplingParams
    n: int
    priority: int
    writer: Writer


class InferenceService:
    """Prepares and starts work; how answers look is decided by the writers in `answer`."""

    def __init__(
        self,
        catalog: CatalogService,
        engines: EnginePool,
        templates: Templates,
        shares: Shares,
        metering: Metering,
        metrics: Metrics,
        tracing: Tracing,
    ) -> None:
        self._catalog = catalog
        self._engines = engines
        self._templates = templates
        self._shares = shares
        self._metering = metering
        self._metrics = metrics
        self._tracing = tracing

    async def complete(
        self, principal: Principal, request: CompletionRequest, costs: Costs
    ) -> Answer:
        """Start the jobs of a completion request.

        Raises:
            PlatformError: it cannot be served; nothing runs then.
        """
        check_completion(request)
        with costs.overhead(), self._tracing.step("resolve"):
            target = await self._target(principal, request)
        params = completion_params(with_defaults(request, target.defaults))
        model = target.base.model
        n = request.n or 1
        prompts = await read_prompts(
            request.prompt, model, echo=bool(request.echo), n=n, context=target.context
        )
        echoes = [prompt.text if request.echo else "" for prompt in prompts for _ in range(n)]
        heading = Heading.new("cmpl", request.model, model.config.fingerprint)
        options = request.stream_options or StreamOptions()
        writer = CompletionWriter(heading, model.tokenizer, n, echoes, options)
        ids = [prompt.ids for prompt in prompts]
        work = _Work("completions", heading, ids, params, n, request.priority or 0, writer)
        return await self._start(principal, target, work, costs)

    async def chat(self, principal: Principal, request: ChatRequest, costs: Costs) -> Answer:
        """Start the jobs of a chat request.

        Raises:
            PlatformError: it cannot be served; nothing runs then.
        """
        check_chat(request)
        with costs.overhead(), self._tracing.step("resolve"):
            target = await self._target(principal, request)
        params = chat_params(with_defaults(request, target.defaults))
        tokenizer = tokenizer_of(target.base.model)
        text = await render(self._templates, target, request)
        n = request.n or 1
        heading = Heading.new("chatcmpl", request.model, target.base.model.config.fingerprint)
        writer = ChatWriter(heading, tokenizer, n, request.stream_options or StreamOptions())
        try:
            (ids,) = await encode(tokenizer, [text], special=False, context=target.context)
            work = _Work("chat", heading, [tuple(ids)], params, n, request.priority or 0, writer)
            return await self._start(principal, target, work, costs)
        except BadRequestError as error:
            if error.param == "prompt":
                raise BadRequestError(error.message, code=error.code, param="messages") from None
            raise

    async def models(self, principal: Principal) -> list[Model]:
        """Everything this key may name as `model`, except single versions."""
        entries = await self._catalog.list_models(principal)
        return [
            Model(entry.id, entry.created, entry.owned_by, entry.parent or entry.id, entry.parent)
            for entry in entries
        ]

    async def model(self, principal: Principal, name: str) -> Model:
        """One model, which may be a single version.

        Raises:
            ModelNotFoundError: absent, or not for this key to see.
        """
        resolved = await self._catalog.resolve(principal, name)
        listed = {model.id: model for model in await self.models(principal)}
        known = listed.get(name)
        if known is None and resolved.version is not None:
            known = listed.get(resolved.version.adapter)
        if known is None:
            raise ModelNotFoundError(name)
        return Model(name, known.created, known.owned_by, known.root, known.parent)

    async def _target(
        self, principal: Principal, request: CompletionRequest | ChatRequest
    ) -> Target:
        resolved = await self._catalog.resolve(principal, request.model, _asker(request))
        base = self._engines.for_base(resolved.base_name)
        # An operator's key resolves to nothing, see `CatalogService.resolve`.
        assert principal.tenant_id is not None
        entitlement = await self._shares.of(principal.tenant_id)
        return Target(base, resolved.version, principal.tenant_id, entitlement)

    async def _start(
        self, principal: Principal, target: Target, work: _Work, costs: Costs
    ) -> Answer:
        """Reserve, then start the jobs; from here on the ledger row is settled however it ends."""
        client = target.base.client
        with costs.overhead(), self._tracing.step("reserve"):
            reservation = await self._metering.reserve(_request(principal, target, work))
        costs.headers = {**reservation.headers, **target.headers}
        base, trace = target.base.model.name, self._tracing.generation(_traced(target, work))

        def observe(outcome: Outcome) -> None:
            self._metrics.observe_answer(base, outcome)
            trace.end(outcome)

        account = Account(
            self._metering, reservation.id, len(work.prompts), work.n, client.acknowledge, observe
        )
        if (most := reservation.max_tokens) is not None:
            least = min(work.params.min_tokens, most)
            capped = replace(work.params, max_tokens=most, min_tokens=least)
            work = work._replace(params=capped)
        try:
            jobs = _jobs(target, work, reservation.id.bytes)
            return Answer(await client.generate(jobs, account.settle), work.writer)
        except BaseException as error:
            account.give_up(error)
            raise


async def render(templates: Templates, target: Target, request: ChatRequest) -> str:
    """The text of a conversation, in the adapter's own template or the base model's.

    Raises:
        BadRequestError: there is no template, or it refuses the messages.
    """
    tokenizer = tokenizer_of(target.base.model)
    own = target.version.chat_template if target.version is not None else None
    source = own or tokenizer.chat_template
    if source is None:
        raise BadRequestError(
            f"{request.model!r} has no chat template; upload the adapter with one, or use /v1/completions.",
            param="model",
            code="chat_template_missing",
        )
    messages = template_messages(request.messages)
    bos, eos = tokenizer.bos_token or "", tokenizer.eos_token or ""
    try:
        if own is not None:
            return await templates.render_adapter(own, messages, bos, eos)
        return templates.render_base(source, messages, bos, eos)
    except TemplateError as error:
        raise BadRequestError(str(error), param="messages", code="chat_template_error") from None


def _traced(target: Target, work: _Work) -> dict[str, str]:
    """What a trace says of a generation: names, and nothing that was asked or answered."""
    known = {
        "gen_ai.operation.name": work.endpoint,
        "gen_ai.response.id": work.heading.id,
        "loraplex.tenant": str(target.tenant),
        "loraplex.base_model": target.base.model.name,
    }
    return known if target.version is None else {**known, "loraplex.version": target.version.model}


def _asker(request: CompletionRequest | ChatRequest) -> str | None:
    """Whoever should meet the same version of a split again; None if the client does not say."""
    asker = request.user
    if isinstance(request, ChatRequest):
        asker = asker or request.safety_identifier or request.prompt_cache_key
    return asker or None


def _request(principal: Principal, target: Target, work: _Work) -> Request:
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
    )
    request = Request(
        target.tenant, principal.actor_id, work.heading.id, work.endpoint, base.name, demand
    )
    if version is None:
        return request
    return request._replace(
        adapter_id=version.adapter_id,
        adapter=version.adapter,
        version=version.n,
        version_id=version.id,
        digest=version.digest,
    )


def _jobs(target: Target, work: _Work, account: bytes) -> list[Job]:
    adapter, salt, share = target.adapter, target.cache_salt, target.share
    return [
        Job(prompt, choice, adapter, salt, work.priority, share, account, at)
        for at, prompt in enumerate(work.prompts)
        for choice in choices(work.params, work.n)
    ]
