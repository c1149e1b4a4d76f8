"""Owns the command `loraplex serve`."""

import os
import re
from pathlib import Path
from typing import get_args

import click

from loraplex.platform.settings import (
    HUB,
    MOST_LEDGER_DAYS,
    Device,
    Dtype,
    LoadFormat,
    ReasoningParser,
    ServedModel,
    Settings,
    SettingsError,
    ToolParser,
    parse_size,
)

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# Weights as safetensors only, and what goes with them.
_HUB_FILES = ["*.json", "*.safetensors", "*.jinja"]


def _api_workers() -> int:
    """One worker streams about 15,000 tokens/s; a step of 256 sequences should reach all of them at once."""
    return max(1, min(4, (os.cpu_count() or 1) // 4))


class _Size(click.ParamType[int]):
    """Bytes, written as `4GiB` or as a number."""

    name = "size"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        if isinstance(value, int):
            return value
        try:
            return parse_size(str(value))
        except SettingsError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    required=True,
    envvar="LORAPLEX_MODEL",
    metavar="DIR_OR_HF_ID",
    help="Base model: a Hugging Face directory or id. Repeat it to serve several.",
)
@click.option(
    "--served-model-name",
    "names",
    multiple=True,
    envvar="LORAPLEX_SERVED_MODEL_NAME",
    help="Id by which requests name the model, one per --model in the same order; the directory's name or the id.",
)
@click.option("--host", default="127.0.0.1", show_default=True, envvar="LORAPLEX_HOST")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, envvar="LORAPLEX_PORT"
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("loraplex-data"),
    show_default=True,
    envvar="LORAPLEX_DATA_DIR",
    help="Database (unless --database-url) and adapter files.",
)
@click.option(
    "--database-url",
    default="",
    envvar="LORAPLEX_DATABASE_URL",
    help="postgresql://... instead of SQLite in the data directory.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    envvar="LORAPLEX_DEVICE",
)
@click.option(
    "--dtype",
    type=click.Choice(["auto", "bfloat16", "float16", "float32"]),
    default="auto",
    show_default=True,
    envvar="LORAPLEX_DTYPE",
)
@click.option(
    "--max-model-len",
    type=click.IntRange(min=1),
    envvar="LORAPLEX_MAX_MODEL_LEN",
    help="Longest prompt plus output in tokens; the model's own limit.",
)
@click.option(
    "--max-num-seqs",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    envvar="LORAPLEX_MAX_NUM_SEQS",
    help="Most sequences in one step.",
)
@click.option(
    "--max-num-batched-tokens",
    type=click.IntRange(min=1),
    default=8192,
    show_default=True,
    envvar="LORAPLEX_MAX_NUM_BATCHED_TOKENS",
    help="Most tokens in one step.",
)
@click.option(
    "--gpu-memory-utilization",
    type=float,
    default=0.9,
    show_default=True,
    envvar="LORAPLEX_GPU_MEMORY_UTILIZATION",
    help="Share of the GPU's memory to use.",
)
@click.option(
    "--arena-size",
    type=_Size(),
    envvar="LORAPLEX_ARENA_SIZE",
    help="Device memory for KV and adapters together; what is left beside the model.",
)
@click.option(
    "--no-prefix-cache",
    is_flag=True,
    envvar="LORAPLEX_NO_PREFIX_CACHE",
    help="Compute every prompt whole, also where another one began alike.",
)
@click.option(
    "--user-grammars",
    is_flag=True,
    envvar="LORAPLEX_USER_GRAMMARS",
    help="Let users write grammars of their own for structured output.",
)
@click.option(
    "--host-cache-size",
    type=_Size(),
    default="4GiB",
    show_default=True,
    envvar="LORAPLEX_HOST_CACHE_SIZE",
    help="Memory for adapters that are not on the device.",
)
@click.option(
    "--disk-cache-size",
    type=_Size(),
    default="32GiB",
    show_default=True,
    envvar="LORAPLEX_DISK_CACHE_SIZE",
    help="Disk for adapter files beside the database.",
)
@click.option(
    "--api-workers",
    type=click.IntRange(min=1),
    envvar="LORAPLEX_API_WORKERS",
    help="Processes that speak HTTP; one per 4 cores, at most 4.",
)
@click.option(
    "--load-format",
    type=click.Choice(["auto", "dummy"]),
    default="auto",
    show_default=True,
    envvar="LORAPLEX_LOAD_FORMAT",
    help="dummy: random weights, for measuring.",
)
@click.option(
    "--tool-parser",
    type=click.Choice(get_args(ToolParser)),
    default="auto",
    show_default=True,
    envvar="LORAPLEX_TOOL_PARSER",
    help="How models write calls of functions; auto: as their chat templates show.",
)
@click.option(
    "--reasoning-parser",
    type=click.Choice(get_args(ReasoningParser)),
    default="auto",
    show_default=True,
    envvar="LORAPLEX_REASONING_PARSER",
    help="What models put around their thoughts; auto: as their chat templates show.",
)
@click.option(
    "--import-dir",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    envvar="LORAPLEX_IMPORT_DIR",
    help="Directory from which operators may import adapters.",
)
@click.option(
    "--import-allow-hosts",
    default="",
    metavar="HOST[,HOST...]",
    envvar="LORAPLEX_IMPORT_ALLOW_HOSTS",
    help="Hosts in your own network that imports may ask, also as endpoints of S3.",
)
@click.option(
    "--hf-endpoint",
    default=HUB,
    show_default=True,
    envvar="LORAPLEX_HF_ENDPOINT",
    help="The Hugging Face Hub that adapters are imported from, or a mirror of it.",
)
@click.option("--hf-token", envvar="LORAPLEX_HF_TOKEN", hidden=True)
@click.option(
    "--currency",
    default="USD",
    show_default=True,
    envvar="LORAPLEX_CURRENCY",
    help="What prices and budgets are in.",
)
@click.option(
    "--ledger-days",
    type=click.IntRange(1, MOST_LEDGER_DAYS),
    envvar="LORAPLEX_LEDGER_DAYS",
    help="How long rows of the ledger are kept, unless a tenant has its own days.",
)
@click.option(
    "--response-days",
    type=click.IntRange(1, MOST_LEDGER_DAYS),
    default=30,
    show_default=True,
    envvar="LORAPLEX_RESPONSE_DAYS",
    help="How long answers of /v1/responses are stored after they were made or last built upon.",
)
@click.option(
    "--response-storage",
    type=_Size(),
    default="1GiB",
    show_default=True,
    envvar="LORAPLEX_RESPONSE_STORAGE",
    help="Most of them that one tenant may have stored; the oldest go first.",
)
@click.option(
    "--no-stored-responses",
    is_flag=True,
    envvar="LORAPLEX_NO_STORED_RESPONSES",
    help="Store none of them.",
)
@click.option(
    "--webhook-allow-http",
    is_flag=True,
    envvar="LORAPLEX_WEBHOOK_ALLOW_HTTP",
    help="Let webhooks have http:// URLs.",
)
@click.option(
    "--webhook-allow-hosts",
    default="",
    envvar="LORAPLEX_WEBHOOK_ALLOW_HOSTS",
    metavar="HOST[,HOST...]",
    help="Hosts in your own network that webhooks may reach, on any port.",
)
@click.option(
    "--public-url",
    default="",
    envvar="LORAPLEX_PUBLIC_URL",
    metavar="https://HOST",
    help="Where browsers find this service; needed behind a proxy that ends TLS.",
)
@click.option(
    "--trusted-proxies",
    default="",
    envvar="LORAPLEX_TRUSTED_PROXIES",
    metavar="NETWORK[,NETWORK...]",
    help="Proxies whose x-forwarded-for and x-forwarded-proto are believed.",
)
@click.option(
    "--cookie-secure",
    is_flag=True,
    envvar="LORAPLEX_COOKIE_SECURE",
    help="Take every browser to come by https.",
)
@click.option(
    "--oidc-issuer",
    default="",
    envvar="LORAPLEX_OIDC_ISSUER",
    metavar="URL",
    help="OpenID Connect provider that people may sign in with.",
)
@click.option(
    "--oidc-client-id",
    default="",
    envvar="LORAPLEX_OIDC_CLIENT_ID",
    help="What this service is called there.",
)
@click.option("--oidc-client-secret", default="", envvar="LORAPLEX_OIDC_CLIENT_SECRET", hidden=True)
@click.option(
    "--oidc-allowed-domains",
    default="",
    envvar="LORAPLEX_OIDC_ALLOWED_DOMAINS",
    metavar="DOMAIN[,DOMAIN...]",
    help="E-mail domains whose people need no invitation.",
)
@click.option("--bootstrap-key", envvar="LORAPLEX_BOOTSTRAP_KEY", hidden=True)
def serve(
    models: tuple[str, ...],
    names: tuple[str, ...],
    host: str,
    port: int,
    data_dir: Path,
    database_url: str,
    device: Device,
    dtype: Dtype,
    max_model_len: int | None,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    gpu_memory_utilization: float,
    arena_size: int | None,
    no_prefix_cache: bool,
    user_grammars: bool,
    host_cache_size: int,
    disk_cache_size: int,
    api_workers: int | None,
    load_format: LoadFormat,
    tool_parser: ToolParser,
    reasoning_parser: ReasoningParser,
    import_dir: Path | None,
    import_allow_hosts: str,
    hf_endpoint: str,
    hf_token: str | None,
    currency: str,
    ledger_days: int | None,
    response_days: int,
    response_storage: int,
    no_stored_responses: bool,
    webhook_allow_http: bool,
    webhook_allow_hosts: str,
    public_url: str,
    trusted_proxies: str,
    cookie_secure: bool,
    oidc_issuer: str,
    oidc_client_id: str,
    oidc_client_secret: str,
    oidc_allowed_domains: str,
    bootstrap_key: str | None,
) -> None:
    """Serve base models and all their adapters until interrupted."""
    # Imported here so that other commands start fast.
    from loraplex.platform.supervisor import StartError, Supervisor

    if len(names) > len(models):
        raise click.UsageError("There are more --served-model-name than --model.")
    given = [*names, *([None] * (len(models) - len(names)))]
    try:
        settings = Settings(
            data_dir=data_dir.absolute(),
            models=tuple(
                _served_model(model, name) for model, name in zip(models, given, strict=True)
            ),
            database_url=database_url,
            host=host,
            port=port,
            api_workers=api_workers or _api_workers(),
            device=device,
            dtype=dtype,
            max_model_len=max_model_len,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            gpu_memory_utilization=gpu_memory_utilization,
            arena_size=arena_size,
            no_prefix_cache=no_prefix_cache,
            user_grammars=user_grammars,
            host_cache_size=host_cache_size,
            disk_cache_size=disk_cache_size,
            load_format=load_format,
            tool_parser=tool_parser,
            reasoning_parser=reasoning_parser,
            import_dir=None if import_dir is None else import_dir.absolute(),
            import_allow_hosts=tuple(
                host.strip().lower() for host in import_allow_hosts.split(",") if host.strip()
            ),
            hf_endpoint=hf_endpoint,
            hf_token=hf_token,
            currency=currency,
            ledger_days=ledger_days,
            response_days=response_days,
            response_storage=response_storage,
            no_stored_responses=no_stored_responses,
            webhook_allow_http=webhook_allow_http,
            webhook_allow_hosts=tuple(
                host.strip() for host in webhook_allow_hosts.split(",") if host.strip()
            ),
            public_url=public_url,
            trusted_proxies=_words(trusted_proxies),
            cookie_secure=cookie_secure,
            oidc_issuer=oidc_issuer,
            oidc_client_id=oidc_client_id,
            oidc_client_secret=oidc_client_secret,
            oidc_allowed_domains=_words(oidc_allowed_domains),
            bootstrap_key=bootstrap_key,
        )
        Supervisor(settings, click.echo).run()
    except (SettingsError, StartError) as error:
        raise click.ClickException(str(error)) from error


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _served_model(model: str, name: str | None) -> ServedModel:
    path = Path(model)
    if path.is_dir():
        return ServedModel(path.absolute(), name or path.absolute().name)
    if _HUB_ID.fullmatch(model):
        return ServedModel(_download(model), name or model)
    raise click.ClickException(f"{model} is neither a directory nor a Hugging Face model id.")


def _download(hub_id: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    click.echo(f"Looking for {hub_id} in the Hugging Face cache and on the hub ...")
    try:
        return Path(snapshot_download(hub_id, allow_patterns=_HUB_FILES))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise click.ClickException(
            f"{hub_id} is no local directory and cannot be downloaded: {reason}"
        ) from error
