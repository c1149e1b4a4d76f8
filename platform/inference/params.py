"""Owns the way from request fields to the engine's sampling parameters."""

from dataclasses import replace

from loraplex.engine.sampling_params import InvalidParamsError, SamplingParams
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest, SamplingFields
from loraplex.platform.inference.structured_outputs import structure_of

# OpenAI's default for completions; chat has none.
COMPLETION_MAX_TOKENS = 16
# Halfway: behind whoever says nothing, before those who ask to be last.
FLEX_PRIORITY = 500


def completion_params(request: CompletionRequest) -> SamplingParams:
    """Raises BadRequestError naming the field that is out of range."""
    max_tokens = COMPLETION_MAX_TOKENS if request.max_tokens is None else request.max_tokens
    logprobs = request.logprobs
    if (request.best_of or 0) > (request.n or 1):
        logprobs = logprobs or 0  # to tell which are best
    params = _params(request, max_tokens, logprobs)
    return replace(params, prompt_logprobs=request.logprobs) if request.echo else params


def chat_params(request: ChatRequest) -> SamplingParams:
    """Raises BadRequestError naming the field that is out of range."""
    newer = request.max_completion_tokens is not None
    max_tokens = request.max_completion_tokens if newer else request.max_tokens
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    try:
        if max_tokens == 0:
            raise BadRequestError(
                "max_tokens must be at least 1.", param="max_tokens", code="invalid_value"
            )
        return _params(request, max_tokens, logprobs)
    except BadRequestError as error:
        if newer and error.param == "max_tokens":
            message = error.message.replace("max_tokens", "max_completion_tokens")
            raise BadRequestError(message, param="max_completion_tokens", code=error.code) from None
        raise


def chat_priority(request: ChatRequest) -> int:
    """When the engine is to serve a chat; lower is earlier."""
    if request.priority is None and request.service_tier == "flex":
        return FLEX_PRIORITY
    return request.priority or 0


def choices(params: SamplingParams, n: int) -> list[SamplingParams]:
    """Parameters of `n` answers to one prompt: each has its own seed, the first the one that was asked for."""
    if params.seed is None:
        return [params] * n
    return [params, *(replace(params, seed=(params.seed + i) % 2**63) for i in range(1, n))]


def _params(fields: SamplingFields, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
    stop = fields.stop
    try:
        return SamplingParams(
            max_tokens=max_tokens,
            min_tokens=fields.min_tokens or 0,
            temperature=_or(fields.temperature, 1.0),
            top_p=_or(fields.top_p, 1.0),
            top_k=fields.top_k or 0,
            min_p=_or(fields.min_p, 0.0),
            repetition_penalty=_or(fields.repetition_penalty, 1.0),
            presence_penalty=_or(fields.presence_penalty, 0.0),
            frequency_penalty=_or(fields.frequency_penalty, 0.0),
            seed=fields.seed,
            stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
            stop_token_ids=tuple(fields.stop_token_ids or ()),
            ignore_eos=bool(fields.ignore_eos),
            logprobs=logprobs,
            logit_bias=_logit_bias(fields.logit_bias or {}),
            structure=structure_of(fields),
        )
    except InvalidParamsError as error:
        raise BadRequestError(str(error), param=error.param, code="invalid_value") from None


def _or(value: float | None, default: float) -> float:
    return default if value is None else value


def _logit_bias(bias: dict[str, float]) -> dict[int, float]:
    for key in bias:
        if not (key.isascii() and key.isdigit() and len(key) < 10):
            raise BadRequestError(
                f"logit_bias: {key[:40]!r} is not a token id.",
                param="logit_bias",
                code="invalid_value",
            )
    return {int(key): value for key, value in bias.items()}
