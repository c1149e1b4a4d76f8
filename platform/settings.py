"""Owns the one frozen `Settings` of a running service: built once from the command line, handed to
every process as JSON. Reads no environment itself; click does that for each flag."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]
LoadFormat = Literal["auto", "dummy"]
ToolParser = Literal["auto", "none", "hermes", "llama3", "mistral"]
ReasoningParser = Literal["auto", "none", "think", "mistral"]

GIB = 1024**3
HUB = "https://huggingface.co"
MOST_LEDGER_DAYS = 36_500
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?)b?|b)?\s*", re.IGNORECASE)


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names it and says what would do."""


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A base model: the local directory of its checkpoint and the id requests name it by."""

    path: Path
    name: str


@dataclass(frozen=True, slots=True)
class PasswordHashing:
    """Costs of argon2id, as OWASP advises for one lane: 46 MiB and one pass, a sixth of a second on a slow core."""

    memory_kib: int = 47104
    time_cost: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything a process of the service must know. Sizes are bytes; None means: chosen at start by the engine."""

    data_dir: Path
    models: tuple[ServedModel, ...] = ()
    database_url: str = field(default="", repr=False)  # empty: SQLite in data_dir
    host: str = "127.0.0.1"
    port: int = 8000
    api_workers: int = 1
    device: Device = "auto"
    dtype: Dtype = "auto"
    max_model_len: int | None = None
    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    gpu_memory_utilization: float = 0.9
    arena_size: int | None = None
    no_prefix_cache: bool = False
    user_grammars: bool = False
    host_cache_size: int = 4 * GIB
    disk_cache_size: int = 32 * GIB
    load_format: LoadFormat = "auto"
    tool_parser: ToolParser = "auto"
    reasoning_parser: ReasoningParser = "auto"
    import_dir: Path | None = None
    import_allow_hosts: tuple[str, ...] = ()
    hf_endpoint: str = HUB
    hf_token: str | None = field(default=None, repr=False)
    bootstrap_key: str | None = field(default=None, repr=False)
    currency: str = "USD"
    ledger_days: int | None = None  # None: for good
    response_days: int = 30
    response_storage: int = GIB  # of one tenant
    no_stored_responses: bool = False
    webhook_allow_http: bool = False
    webhook_allow_hosts: tuple[str, ...] = ()
    public_url: str = ""  # as browsers see the service; empty: whatever they ask for
    trusted_proxies: tuple[str, ...] = ()
    cookie_secure: bool = False
    password_hashing: PasswordHashing = PasswordHashing()
    oidc_issuer: str = ""  # empty: nobody signs in by way of another provider
    oidc_client_id: str = ""
    oidc_client_secret: str = field(default="", repr=False)
    oidc_allowed_domains: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = [model.name for model in self.models]
        if duplicates := {name for name in names if names.count(name) > 1}:
            raise SettingsError(
                f"Two models are served as {min(duplicates)!r}; give each its own --served-model-name."
            )
        if not re.fullmatch("[A-Z]{3}", self.currency):
            raise SettingsError("--currency must be three capital letters, for example EUR.")
        if self.ledger_days is not None and not 1 <= self.ledger_days <= MOST_LEDGER_DAYS:
            raise SettingsError(f"--ledger-days must be from 1 to {MOST_LEDGER_DAYS}.")
        if not 0 < self.gpu_memory_utilization <= 1:
            raise SettingsError("--gpu-memory-utilization must be above 0 and at most 1.")
        if not re.match(r"https?://[^/?#@\s]+/?$", self.hf_endpoint):
            raise SettingsError("--hf-endpoint must be a URL; write https://HOST.")
        for flag in ("api_workers", "max_num_seqs", "max_num_batched_tokens"):
            if getattr(self, flag) < 1:
                raise SettingsError(f"--{flag.replace('_', '-')} must be at least 1.")

    def to_json(self) -> str:
        """All settings, the bootstrap key included: hand it to child processes, never to a log."""
        return msgspec.json.encode(self, enc_hook=_encode).decode()

    @classmethod
    def from_json(cls, text: str) -> "Settings":
        """The inverse of `to_json`."""
        return msgspec.json.decode(text, type=cls, dec_hook=_decode)


def parse_size(text: str) -> int:
    """Bytes from `4GiB`, `512MB`, `1.5g` or plain digits. A bare letter is binary, as is one followed by `i`.

    Raises:
        SettingsError: not a size.
    """
    match = _SIZE.fullmatch(text)
    if match is None:
        raise SettingsError(f"{text!r} is not a size; write bytes or for example 512MiB or 4GiB.")
    number, unit, binary = match.groups()
    if not unit:
        return int(float(number))
    decimal = not binary and text.strip().lower().endswith("b")
    return int(float(number) * (1000 if decimal else 1024) ** ("kmgt".index(unit.lower()) + 1))


def _encode(value: object) -> str:
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(f"{type(value).__name__} has no JSON form.")


def _decode(expected: Callable[[str], object], value: str) -> object:
    if expected is Path:
        return Path(value)
    raise NotImplementedError(f"{expected} has no JSON form.")
