"""Owns the step from logits to tokens: penalties, cuts, seeds and log-probabilities, one row per sequence."""

from dataclasses import dataclass

import torch

from loraplex.engine.request import TokenLogprob
from loraplex.engine.sampling_params import SamplingParams
from loraplex.engine.sequence import Sequence

_MASK64 = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Sampled:
    """Outcome for one sequence; `token_id` is None if the model gave no usable numbers (NaN or infinity)."""

    token_id: int | None
    logprob: TokenLogprob | None


class Sampler:
    """Chooses one token per row. A row's result depends on that row alone: its logits, its parameters, its seed and how
    many tokens its sequence has."""

    def __init__(self, eos_token_ids: tuple[int, ...]) -> None:
        self._eos_token_ids = eos_token_ids

    def sample(self, logits: torch.Tensor, sequences: tuple[Sequence, ...]) -> list[Sampled]:
        """Choose the next token of each sequence.

        Args:
            logits: [sequences, vocabulary], any float dtype.
            sequences: one per row.
        """
        raw = logits.float()
        # Non-finite numbers anywhere in a row show in its extremes: NaN propagates through both.
        usable = raw.amax(-1).isfinite() & raw.amin(-1).isfinite()
        chosen = self._choose(self._adjust(raw, sequences), sequences)
        # The one place where a step waits for the device.
        tokens, finite = torch.stack((chosen, usable.long())).tolist()
        logprobs = _logprobs(raw, tokens, sequences)
        return [
            Sampled(token, logprob) if ok else Sampled(None, None)
            for token, logprob, ok in zip(tokens, logprobs, finite, strict=True)
        ]

    def _adjust(self, raw: torch.Tensor, sequences: tuple[Sequence, ...]) -> torch.Tensor:
        """Penalties, biases and minimum length; copies `raw` only if some row needs it."""
        rows = [i for i, s in enumerate(sequences) if _needs_adjusting(s)]
        if not rows:
            return raw
        adjusted = raw.clone()
        for i in rows:
            self._adjust_row(adjusted[i], sequences[i])
        return adjusted

    def _adjust_row(self, row: torch.Tensor, sequence: Sequence) -> None:
        params, prompt = sequence.request.params, sequence.num_prompt
        output = torch.tensor(sequence.tokens[prompt:], dtype=torch.int64, device=row.device)
        if params.repetition_penalty != 1.0:
            seen = torch.tensor(sequence.tokens, dtype=torch.int64, device=row.device).unique()
            values = row[seen]
            penalty = params.repetition_penalty
            row[seen] = torch.where(values > 0, values / penalty, values * penalty)
        if len(output) and (params.presence_penalty or params.frequency_penalty):
            ids, counts = output.unique(return_counts=True)
            row[ids] -= params.presence_penalty + params.frequency_penalty * counts
        for token, bias in params.logit_bias.items():
            row[token] += bias
        if sequence.num_output < params.min_tokens:
            stops = list(params.stop_token_ids)
            if not params.ignore_eos:
                stops += self._eos_token_ids
            row[stops] = -torch.inf

    def _choose(self, logits: torch.Tensor, sequences: tuple[Sequence, ...]) -> torch.Tensor:
        tokens = logits.argmax(-1)
        rows = [i for i, s in enumerate(sequences) if not s.request.params.greedy]
        if rows:
            tokens[rows] = _draw(logits[rows], [sequences[i] for i in rows])
        return tokens


def _needs_adjusting(sequence: Sequence) -> bool:
    params: SamplingParams = sequence.request.params
    return bool(
        params.repetition_penalty != 1.0
        or params.presence_penalty
        or params.frequency_penalty
        or params.logit_bias
        or sequence.num_output < params.min_tokens
    )


def _draw(logits: torch.Tensor, sequences: list[Sequence]) -> torch.Tensor:
    """Sample [n] tokens from rows of [n, vocabulary] through the inverse of their cumulated probabilities."""
    params = [s.request.params for s in sequences]
    size, device = logits.shape[-1], logits.device

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32, device=device)[:, None]

    scaled = logits / column([max(p.temperature, 1e-5) for p in params])
    values, ids = scaled.sort(dim=-1, descending=True, stable=True)
    probs = values.softmax(-1)
    rank = torch.arange(size, device=device)[None, :]
    top_k = column([float(min(p.top_k, size) if p.top_k > 0 else size) for p in params])
    before = probs.cumsum(-1) - probs
    # The most likely token has nothing before it, so it survives every cut.
    keep = (rank < top_k) & (before < column([p.top_p for p in params]))
    keep &= probs >= column([p.min_p for p in params]) * probs[:, :1]
    cumulated = probs.where(keep, torch.zeros_like(probs)).double().cumsum(-1)
    uniform = torch.tensor(
        [_uniform(s.seed, s.num_output) for s in sequences], dtype=torch.float64, device=device
    )[:, None]
    index = torch.searchsorted(cumulated, uniform * cumulated[:, -1:], right=True)
    # A row of NaN keeps nothing; its index must still be valid, its token is thrown away by the caller.
    index = torch.minimum(index, (keep.sum(-1, keepdim=True) - 1).clamp(min=0))
    return ids.gather(-1, index)[:, 0]


def _uniform(seed: int, position: int) -> float:
    """A number in [0, 1) from a seed and a counter (SplitMix64, Steele, Lea and Flood 2014)."""
    z = (seed + (position + 1) * 0x9E3779B97F4A7C15) & _MASK64
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK64
    return ((z ^ (z >> 31)) >> 11) / 2**53


def _logprobs(
    raw: torch.Tensor, tokens: list[int], sequences: tuple[Sequence, ...]
) -> list[TokenLogprob | None]:
    result: list[TokenLogprob | None] = [None] * len(sequences)
    wanted = {i: s.request.params.logprobs for i, s in enumerate(sequences)}
    rows = [i for i, count in wanted.items() if count is not None]
    if not rows:
        return result
    logprobs = raw[rows].log_softmax(-1)
    most = min(max(wanted[i] or 0 for i in rows), raw.shape[-1])
    top = logprobs.topk(most, dim=-1)
    picked = torch.tensor([tokens[i] for i in rows], device=raw.device)[:, None]
    own = logprobs.gather(-1, picked)[:, 0].tolist()
    top_ids, top_values = top.indices.tolist(), top.values.tolist()
    for at, i in enumerate(rows):
        count = wanted[i] or 0
        pairs = zip(top_ids[at][:count], top_values[at][:count], strict=True)
        result[i] = TokenLogprob(tokens[i], own[at], tuple(pairs))
    return result
