"""Owns what one sampled token does to its sequence: the token, its text, and whether it is the last."""

from loraplex.engine.request import FinishReason, Output, TokenLogprob
from loraplex.engine.sampler import Sampled
from loraplex.engine.sequence import Sequence


def advance(sequence: Sequence, choice: Sampled) -> Output:
    """Add a sampled token; the output's `finish_reason` says whether the sequence has ended with it."""
    token = choice.token_id
    if token is None:
        return failure(
            sequence, "The model computed a value that is not a finite number for this request."
        )
    sequence.tokens.append(token)
    length = len(sequence.tokens)
    may_stop = length >= sequence.min_len
    stops = may_stop and token in sequence.stop_ids
    # The token that ends a sequence is counted and returned, but is not text.
    reason = FinishReason.STOP if stops else None
    text = ""
    stopped_by_text = False
    if not stops and sequence.detokenizer is not None:
        text, stopped_by_text = sequence.detokenizer.append((token,), check_stop=may_stop)
        if stopped_by_text:
            reason = FinishReason.STOP
    if reason is None and length >= sequence.max_len:
        reason = FinishReason.LENGTH
    if reason is not None and not stopped_by_text and sequence.detokenizer is not None:
        rest = sequence.detokenizer.flush(check_stop=may_stop)
        text += rest.text
        reason = FinishReason.STOP if rest.stopped else reason
    logprobs = None if choice.logprob is None else (choice.logprob,)
    return _output(sequence, (token,), text, logprobs, reason)


def failure(sequence: Sequence, error: str) -> Output:
    """The last output of a sequence that cannot go on; `error` is a sentence for the user."""
    return _output(sequence, (), "", None, FinishReason.ERROR, error)


def _output(
    sequence: Sequence,
    token_ids: tuple[int, ...],
    text: str,
    logprobs: tuple[TokenLogprob, ...] | None,
    reason: FinishReason | None,
    error: str | None = None,
) -> Output:
    return Output(
        sequence.request.request_id,
        token_ids,
        text,
        logprobs,
        reason,
        error,
        sequence.num_prompt,
        sequence.cached_tokens or 0,
        len(sequence.tokens) - sequence.num_prompt,
    )
