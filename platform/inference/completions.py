"""Owns reading a completion request: its prompts as tokens, how to sample, and what its choices tell."""

from dataclasses import replace
from typing import NamedTuple

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.engines.base_model import BaseModel
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.completion_writer import Wanted
from loraplex.platform.inference.fill_in import gap_of
from loraplex.platform.inference.params import completion_params
from loraplex.platform.inference.prompts import Prompt, read_gaps, read_prompts, tokenizer_of
from loraplex.platform.inference.schemas import CompletionRequest


class Completing(NamedTuple):
    """What a request asks for."""

    prompts: list[Prompt]
    params: SamplingParams
    wanted: Wanted


async def read_completion(
    request: CompletionRequest, model: BaseModel, context: int | None
) -> Completing:
    """Read a request that has passed `check_completion` and has its model's defaults; `context` is the model's, in
    tokens, if it is known.

    Raises:
        BadRequestError: naming the field that cannot be served.
    """
    params = completion_params(request)
    n = request.n or 1
    wanted = Wanted(
        n,
        max(n, request.best_of or 0),
        bool(request.echo),
        request.logprobs is not None,
        bool(request.return_token_ids),
    )
    if wanted.logprobs and model.tokenizer is None:
        raise BadRequestError(
            f"logprobs are told by tokens' texts, and {model.name!r} has no tokenizer; leave logprobs out.",
            param="logprobs",
            code="unsupported_value",
        )
    if request.suffix:
        prompts = await read_gaps(
            request.prompt, request.suffix, model, n=wanted.best_of, context=context
        )
        if not params.ignore_eos:
            stop = gap_of(tokenizer_of(model)).stop
            params = replace(params, stop_token_ids=(*params.stop_token_ids, *stop))
        return Completing(prompts, params, wanted)
    prompts = await read_prompts(
        request.prompt,
        model,
        echo=wanted.echo,
        n=wanted.best_of,
        context=context,
        special=request.add_special_tokens is not False,
        least=0 if params.max_tokens == 0 else 1,
    )
    return Completing(prompts, params, wanted)
