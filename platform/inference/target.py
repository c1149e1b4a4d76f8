"""Owns what a model name stands for at one moment, for one tenant, and who asked for it."""

import hashlib
from dataclasses import dataclass
from uuid import UUID

from loraplex.platform.catalog.defaults import Defaults
from loraplex.platform.catalog.resolve import ResolvedVersion
from loraplex.platform.engines.messages import AdapterFile, TenantShare
from loraplex.platform.engines.pool import ServedBase
from loraplex.platform.inference.chat_prompt import Speaker
from loraplex.platform.inference.embedding_schemas import EmbeddingRequest
from loraplex.platform.inference.prompts import tokenizer_of
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest
from loraplex.platform.tenants.shares import Entitlement

# What names a model, and may say who asks.
Asking = CompletionRequest | ChatRequest | EmbeddingRequest


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
    def subject(self) -> str:
        """The adapter or base model that answers, by which keys may be confined."""
        return self.base.model.name if self.version is None else self.version.adapter

    @property
    def speaker(self) -> Speaker:
        """Whose chat template it has.

        Raises:
            BadRequestError: the base model has no tokenizer.
        """
        own = None if self.version is None else self.version.chat_template
        return Speaker(tokenizer_of(self.base.model), own)

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
        return self.base.context

    @property
    def cache_salt(self) -> bytes:
        """Only requests of one tenant for one version may share prefix-cache blocks."""
        digest = self.version.digest if self.version is not None else ""
        parts = (self.base.model.config.fingerprint, digest, str(self.tenant))
        return hashlib.sha256("\n".join(parts).encode()).digest()


def asker_of(request: Asking) -> str | None:
    """Whoever should meet the same version of a split again; None if the client does not say."""
    asker = request.user
    if isinstance(request, ChatRequest):
        asker = asker or request.safety_identifier or request.prompt_cache_key
    return asker or None
