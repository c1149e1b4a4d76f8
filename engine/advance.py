"""Owns what one sampled token does to its sequence: the token, its text, and whether it is the last."""

from loraplex.engine.request import FinishReason, Output, TokenLogprob
from loraplex.engine.sampler import Sampled
from loraplex.engine.sequence import Sequence
from loraplex.engine.structured.port import TOO_SLOW

_NOT_FINITE = "The model computed a value that is not a finite number for this request."


def advance(sequence: Sequence, choice: Sampled) -> Output:
    """Add a sampled token; the output's `finish_reason` says whether the sequence has ended with it."""
    token = choice.token_id
    if token is None:
        return failure(sequence, _NOT_FINITE)
    scores = sequence.prompt_logprobs
    if scores is None or sequence.num_output:
        return _advance(sequence, token, choice.logprob)
    return _advance(sequence, token, choice.logprob)._replace(prompt_logprobs=tuple(scores))


def _advance(sequence: Sequence, token: int, logprob: TokenLogprob | None) -> Output:
    if len(sequence.tokens) >= sequence.max_len:  # only its prompt was to be computed
        nothing = None if logprob is None else ()
        return _output(sequence, (), "", nothing, FinishReason.LENGTH)
    sequence.tokens.append(token)
    length = len(sequence.tokens)
    may_stop = length >= sequence.min_len
    stops = may_stop and token in sequence.stop_ids
    # The token that ends a sequence is counted and returned, but is not text.
    reason = FinishReason.STOP if stops else None
    if not stops and sequence.matcher is not None:
        if not sequence.matcher.accept(token):
            sequence.tokens.pop()
            return failure(sequence, "No token of this model continues the requested structure.")
        if sequence.matcher.too_slow():
            sequence.tokens.pop()
            return failure(sequence, TOO_SLOW)
        # Nothing but an end may follow: it need not be computed, and may be banned by other parameters.
        reason = FinishReason.STOP if sequence.matcher.exhausted() else None
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
    logprobs = None if logprob is None else (logprob,)
    return _output(sequence, (token,), text, logprobs, reason)


def embedded(sequence: Sequence, vector: bytes | None) -> Output:
    """The only output of a sequence that is to become a vector; None stands for one with unusable numbers."""
    if vector is None:
        return failure(sequence, _NOT_FINITE)
    return _output(sequence, (), "", None, FinishReason.STOP)._replace(embedding=vector)


def failure(sequence: Sequence, error: str, reason: FinishReason = FinishReason.ERROR) -> Output:
    """The last output of a sequence that cannot go on; `error` is a sentence for the user."""
    return _output(sequence, (), "", None, reason, error)


def nothing_yet(sequence: Sequence) -> Output:
    """An output that only says that the sequence lives."""
    return _output(sequence, (), "", None, None)


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
