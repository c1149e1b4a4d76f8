"""Owns the way of a request to an engine: model name to version, text to tokens, fields to jobs."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import msgspec

from loraplex.engine.request import FinishReason
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.defaults import with_defaults
from loraplex.platform.catalog.service import CatalogService
from loraplex.platform.engines.generation import Generation
from loraplex.platform.engines.outcome import Outcome
from loraplex.platform.engines.pool import EnginePool
from loraplex.platform.errors import BadRequestError, ModelNotFoundError
from loraplex.platform.inference.answer import Answer, Heading
from loraplex.platform.inference.bodies import Model
from loraplex.platform.inference.chat_prompt import ChatPrompt, chat_prompt
from loraplex.platform.inference.chat_writer import ChatWriter, chat_style
from loraplex.platform.inference.checks import check_chat, check_completion
from loraplex.platform.inference.completion_writer import CompletionWriter
from loraplex.platform.inference.completions import read_completion
from loraplex.platform.inference.costs import Costs
from loraplex.platform.inference.dialects import Dialect, Opening, Spoken, W
from loraplex.platform.inference.params import chat_params, chat_priority
from loraplex.platform.inference.prompts import encode, tokenizer_of
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest, StreamOptions
from loraplex.platform.inference.target import Asking, Target, asker_of
from loraplex.platform.inference.templates import Templates
from loraplex.platform.inference.work import Work, counting, jobs_of, request_of, traced
from loraplex.platform.metering.account import REFUSED, Account
from loraplex.platform.metering.service import Metering
from loraplex.platform.metering.settlement import SETTLED, Settlement
from loraplex.platform.metrics import Metrics
from loraplex.platform.tenants.shares import Shares
from loraplex.platform.tracing.tracing import Tracing

# After everything else of its tenant: the largest that clients may send is 1000.
BATCH_PRIORITY = 1_000_000


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
        target = await self.target(principal, request, costs)
        model = target.base.model
        prompts, params, wanted = await read_completion(
            with_defaults(request, target.defaults), model, target.context
        )
        heading = Heading.new("cmpl-", request.model, model.config.fingerprint)
        options = request.stream_options or StreamOptions()
        writer = CompletionWriter(heading, model.tokenizer, prompts, wanted, options)
        ids = [prompt.ids for prompt in prompts]
        work = Work("completions", heading, ids, params, wanted.best_of, request.priority or 0)
        return Answer(await self.start(principal, target, work, costs), writer)

    async def chat(self, principal: Principal, request: ChatRequest, costs: Costs) -> Answer:
        """Start the jobs of a chat request.

        Raises:
            PlatformError: it cannot be served; nothing runs then.
        """
        n, options = request.n or 1, request.stream_options or StreamOptions()
        style = chat_style(request)

        def write(opening: Opening) -> ChatWriter:
            heading, tokenizer = opening.heading, opening.tokenizer
            return ChatWriter(heading, tokenizer, n, options, opening.readers, style)

        return Answer(
            *await self.speak(principal, request, costs, Dialect("chat", "chatcmpl-", write))
        )

    async def speak(
        self, principal: Principal, request: ChatRequest, costs: Costs, dialect: Dialect[W]
    ) -> Spoken[W]:
        """Start the jobs of a chat that was asked for in any dialect.

        Raises:
            PlatformError: it cannot be served; nothing runs then. Fields are named as the chat's.
        """
        check_chat(request)
        target = await self.target(principal, request, costs)
        params = chat_params(with_defaults(request, target.defaults))
        tokenizer = tokenizer_of(target.base.model)
        heading = Heading.new(dialect.prefix, request.model, target.base.model.config.fingerprint)
        n, priority = request.n or 1, chat_priority(request)
        try:
            prompt = await self.prompt_of(target, request)
            ids = await _encode(target, prompt)
            params = prompt.params(params)
            readers = prompt.reading.readers(tokenizer)
            writer = dialect.write(Opening(heading, target.subject, tokenizer, params, readers))
            work = Work(dialect.endpoint, heading, [ids], params, n, priority)
            return Spoken(await self.start(principal, target, work, costs), writer)
        except BadRequestError as error:
            raise _of_chat(error, request) from None

    async def count(self, principal: Principal, request: ChatRequest, costs: Costs) -> int:
        """How many tokens the prompt of a chat has.

        Raises:
            PlatformError: it cannot be served.
        """
        check_chat(request)
        target = await self.target(principal, request, costs)
        try:
            async with self.without_engine(principal, target, "count_tokens", costs):
                return len(await _encode(target, await self.prompt_of(target, request)))
        except BadRequestError as error:
            raise _of_chat(error, request) from None

    async def models(self, principal: Principal) -> list[Model]:
        """Everything this key may name as `model`, except single versions."""
        entries = await self._catalog.list_models(principal)
        return [
            Model(
                entry.id,
                entry.created,
                entry.owned_by,
                root := entry.parent or entry.id,
                entry.parent,
                self._engines.for_base(root).context,
            )
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
        return msgspec.structs.replace(known, id=name)

    async def prompt_of(self, target: Target, request: ChatRequest) -> ChatPrompt:
        """What a chat becomes, see `chat_prompt`."""
        return await chat_prompt(self._templates, target.speaker, request)

    async def target(self, principal: Principal, request: Asking, costs: Costs) -> Target:
        """Whatever the model of a request stands for now.

        Raises:
            ModelNotFoundError: absent, or not for this key to see.
        """
        with costs.overhead(), self._tracing.step("resolve"):
            return await self._target(principal, request)

    async def _target(self, principal: Principal, request: Asking) -> Target:
        resolved = await self._catalog.resolve(principal, request.model, asker_of(request))
        base = self._engines.for_base(resolved.base_name)
        # An operator's key resolves to nothing, see `CatalogService.resolve`.
        assert principal.tenant_id is not None
        entitlement = await self._shares.of(principal.tenant_id)
        return Target(base, resolved.version, principal.tenant_id, entitlement)

    @asynccontextmanager
    async def without_engine(
        self, principal: Principal, target: Target, endpoint: str, costs: Costs
    ) -> AsyncIterator[None]:
        """Around what is done for a request here alone: to limits and the ledger it is a request of no tokens.

        Raises:
            LimitExceededError: a limit does not admit it.
        """
        with costs.overhead(), self._tracing.step("reserve"):
            reservation = await self._metering.reserve(counting(principal, target, endpoint))
        costs.headers = {**reservation.headers, **target.headers}
        began, reason = time.monotonic(), REFUSED
        try:
            yield
            reason = FinishReason.STOP
        finally:
            seconds = time.monotonic() - began
            self._metering.settle_soon(
                Settlement(reservation.id, SETTLED, reason, 0, 0, 0, seconds)
            )

    async def start(
        self, principal: Principal, target: Target, work: Work, costs: Costs
    ) -> Generation:
        """Reserve, then start the jobs; from here on the ledger row is settled however it ends."""
        client = target.base.client
        if principal.batch is not None:
            work = work._replace(priority=BATCH_PRIORITY)
        with costs.overhead(), self._tracing.step("reserve"):
            reservation = await self._metering.reserve(request_of(principal, target, work))
        costs.headers = {**reservation.headers, **target.headers}
        base, trace = target.base.model.name, self._tracing.generation(traced(target, work))

        def observe(outcome: Outcome) -> None:
            self._metrics.observe_answer(base, outcome)
            trace.end(outcome)

        account = Account(
            self._metering, reservation.id, len(work.prompts), work.n, client.acknowledge, observe
        )

        async def written() -> None:
            with costs.overhead():
                await account.written()

        if (most := reservation.max_tokens) is not None:
            least = min(work.params.min_tokens, most)
            capped = replace(work.params, max_tokens=most, min_tokens=least)
            work = work._replace(params=capped)
        try:
            jobs = jobs_of(target, work, reservation.id.bytes)
            return await client.generate(jobs, account.settle, written, account.handing)
        except BaseException as error:
            account.give_up(error)
            raise


async def _encode(target: Target, prompt: ChatPrompt) -> tuple[int, ...]:
    (ids,) = await encode(prompt.tokenizer, [prompt.text], special=False, context=target.context)
    return tuple(ids)


def _of_chat(error: BadRequestError, request: ChatRequest) -> BadRequestError:
    """An error about a prompt and its answer, as whoever sent messages reads it."""
    param = error.param
    if param == "prompt":
        param = "messages"
    elif param == "max_tokens" and request.max_completion_tokens is not None:
        param = "max_completion_tokens"
    return BadRequestError(error.message, code=error.code, param=param)
