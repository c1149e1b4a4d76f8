"""Owns the way of a request to an engine: model name to version, text to tokens, fields to jobs."""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.auth.principal import Principal
from loraplex.platform.catalog.resolve import ResolvedVersion
from loraplex.platform.catalog.service import CatalogService
from loraplex.platform.engines.generation import Job
from loraplex.platform.engines.messages import AdapterFile, TenantShare
from loraplex.platform.engines.outcome import Settle
from loraplex.platform.engines.pool import EnginePool, ServedBase
from loraplex.platform.errors import BadRequestError, ModelNotFoundError
from loraplex.platform.inference.answer import Answer, ChatWriter, CompletionWriter, Heading
from loraplex.platform.inference.bodies import Model
from loraplex.platform.inference.chat_template import TemplateError, template_messages
from loraplex.platform.inference.checks import check_chat, check_completion
from loraplex.platform.inference.params import chat_params, choices, completion_params
from loraplex.platform.inference.prompts import encode, read_prompts, tokenizer_of
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest, StreamOptions
from loraplex.platform.inference.templates import Templates
from loraplex.platform.ledger.recorder import Recorder
from loraplex.platform.tenants.shares import Entitlement, Shares


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


class InferenceService:
    """Prepares and starts work; how answers look is decided by the writers in `answer`."""

    def __init__(
        self,
        catalog: CatalogService,
        engines: EnginePool,
        templates: Templates,
        shares: Shares,
        recorder: Recorder,
    ) -> None:
        self._catalog = catalog
        self._engines = engines
        self._templates = templates
        self._shares = shares
        self._recorder = recorder

    async def complete(self, principal: Principal, request: CompletionRequest) -> Answer:
        """Start the jobs of a completion request.

        Raises:
            PlatformError: it cannot be served; nothing runs then.
        """
        check_completion(request)
        params = completion_params(request)
        target = await self._target(principal, request.model)
        model = target.base.model
        n = request.n or 1
        prompts = await read_prompts(
            request.prompt, model, echo=bool(request.echo), n=n, context=target.context
        )
        jobs = _jobs(target, [prompt.ids for prompt in prompts], params, n, request.priority or 0)
        echoes = [prompt.text if request.echo else "" for prompt in prompts for _ in range(n)]
        heading = Heading.new("cmpl", request.model, model.config.fingerprint)
        options = request.stream_options or StreamOptions()
        writer = CompletionWriter(heading, model.tokenizer, n, echoes, options)
        settle = self._account(principal, target, heading)
        return Answer(await target.base.client.generate(jobs, settle), writer)

    async def chat(self, principal: Principal, request: ChatRequest) -> Answer:
        """Start the jobs of a chat request.

        Raises:
            PlatformError: it cannot be served; nothing runs then.
        """
        check_chat(request)
        params = chat_params(request)
        target = await self._target(principal, request.model)
        tokenizer = tokenizer_of(target.base.model)
        text = await self._render(target, request)
        n = request.n or 1
        heading = Heading.new("chatcmpl", request.model, target.base.model.config.fingerprint)
        writer = ChatWriter(heading, tokenizer, n, request.stream_options or StreamOptions())
        try:
            (ids,) = await encode(tokenizer, [text], special=False, context=target.context)
            jobs = _jobs(target, [tuple(ids)], params, n, request.priority or 0)
            settle = self._account(principal, target, heading)
            return Answer(await target.base.client.generate(jobs, settle), writer)
        except BadRequestError as error:
            if error.param == "prompt":
                raise BadRequestError(error.message, code=error.code, param="messages") from None
            raise

    async def models(self, principal: Principal) -> list[Model]:
        """Everything this key may name as `model`, except single versions."""
        entries = await self._catalog.list_models(principal.tenant_id)
        return [
            Model(entry.id, entry.created, entry.owned_by, entry.parent or entry.id, entry.parent)
            for entry in entries
        ]

    async def model(self, principal: Principal, name: str) -> Model:
        """One model, which may be a single version.

        Raises:
            ModelNotFoundError: absent, or not for this key to see.
        """
        resolved = await self._catalog.resolve(principal.tenant_id, name)
        listed = {model.id: model for model in await self.models(principal)}
        known = listed.get(name)
        if known is None and resolved.version is not None:
            known = listed.get(resolved.version.adapter)
        if known is None:
            raise ModelNotFoundError(name)
        return Model(name, known.created, known.owned_by, known.root, known.parent)

    async def _target(self, principal: Principal, name: str) -> Target:
        resolved = await self._catalog.resolve(principal.tenant_id, name)
        base = self._engines.for_base(resolved.base_name)
        # An operator's key resolves to nothing, see `CatalogService.resolve`.
        assert principal.tenant_id is not None
        entitlement = await self._shares.of(principal.tenant_id)
        return Target(base, resolved.version, principal.tenant_id, entitlement)

    def _account(self, principal: Principal, target: Target, heading: Heading) -> Settle:
        name = target.base.model.name
        return self._recorder.account(
            target.tenant, principal.actor_id, heading.id, name, target.version
        )

    async def _render(self, target: Target, request: ChatRequest) -> str:
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
                return await self._templates.render_adapter(own, messages, bos, eos)
            return self._templates.render_base(source, messages, bos, eos)
        except TemplateError as error:
            raise BadRequestError(
                str(error), param="messages", code="chat_template_error"
            ) from None


def _jobs(
    target: Target, prompts: list[tuple[int, ...]], params: SamplingParams, n: int, priority: int
) -> list[Job]:
    adapter, salt, share = target.adapter, target.cache_salt, target.share
    return [
        Job(prompt, choice, adapter, salt, priority, share)
        for prompt in prompts
        for choice in choices(params, n)
    ]
