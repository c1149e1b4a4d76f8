"""Owns the step from logits to tokens: what the sequences' parameters ask for, laid out for the device, and the results
on their way back. Nothing here waits for the device but `SampledTokens.read`."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from loraplex.engine.logit_changes import LogitChanges, may_change_logits
from loraplex.engine.request import TokenLogprob
from loraplex.engine.sampling_plan import SamplingPlan
from loraplex.engine.sequence import Sequence
from loraplex.engine.structured.masks import Masks
from loraplex.kernels.sampling.choose import choose
from loraplex.kernels.sampling.draws import Column, Draws
from loraplex.kernels.sampling.masks import take_rows
from loraplex.kernels.sampling.penalties import Changes, apply_changes
from loraplex.kernels.sampling.top_logprobs import TopLogprobs, top_logprobs


@dataclass(frozen=True, slots=True)
class Sampled:
    """Outcome for one sequence; `token_id` is None if the model gave no usable numbers (NaN or infinity)."""

    token_id: int | None
    logprob: TokenLogprob | None


class SampledTokens:
    """One launched sampling.

    Attributes:
        token_ids: [rows] int64 on the model's device, valid in stream order; a row without usable numbers has token 0.
    """

    def __init__(
        self, result: torch.Tensor, wanted: dict[int, int], logprobs: TopLogprobs | None
    ) -> None:
        self.token_ids = result[0]
        self._wanted = wanted
        self._result = _to_host(result)
        self._logprobs = None if logprobs is None else TopLogprobs(*map(_to_host, logprobs))
        self._copied = torch.cuda.Event() if result.is_cuda else None
        if self._copied is not None:
            self._copied.record()

    def read(self) -> list[Sampled]:
        """The outcomes, one per row; waits until this sampling has ended on the device."""
        if self._copied is not None:
            self._copied.synchronize()
        tokens, usable = self._result.tolist()
        logprobs = self._read_logprobs(tokens)
        return [
            Sampled(token, logprobs.get(row)) if fine else Sampled(None, None)
            for row, (token, fine) in enumerate(zip(tokens, usable, strict=True))
        ]

    def _read_logprobs(self, tokens: list[int]) -> dict[int, TokenLogprob]:
        if self._logprobs is None:
            return {}
        own, values, ids = (part.tolist() for part in self._logprobs)
        return {
            row: TokenLogprob(
                tokens[row],
                own[at],
                tuple(zip(ids[at][:count], values[at][:count], strict=True)),
            )
            for at, (row, count) in enumerate(self._wanted.items())
        }


class Sampler:
    """Chooses one token per row. A row's result depends on that row alone: its logits, its parameters, its seed and how
    many tokens its sequence has."""

    def __init__(
        self,
        eos_token_ids: tuple[int, ...],
        vocab_size: int,
        max_rows: int,
        device: torch.device,
    ) -> None:
        """
        Args:
            eos_token_ids: tokens that end a sequence unless it ignores them.
            vocab_size: real tokens; columns of the logits behind them are never chosen.
            max_rows: most sequences in a step.
            device: where the logits are.
        """
        self._vocab_size = vocab_size
        self._device = device
        self._changes = LogitChanges(eos_token_ids)
        self._masks = Masks(vocab_size, eos_token_ids, max_rows, device.type == "cuda")
        self._plan = SamplingPlan.build((), 0)
        self._may_change: list[int] = []
        self._wanted: dict[int, int] = {}
        if device.type == "cuda":
            # Pinned memory is reserved here; the first reservation of a size would stall a step.
            kept = [torch.empty(max_rows * size, pin_memory=True) for size in (4, 10, 40)]
            del kept

    def warm_up(self, dtype: torch.dtype) -> None:
        """Compile every kernel for logits of `dtype`, so that no request waits for it; seconds, unless Triton has them
        in its cache."""
        off, all_cuts = [1.0, 0.0, 1.0, 0.0, 0.5], [1.0, 1.0, 0.5, 0.5, 0.5]
        wanted: list[Draws | None] = [None]
        for line, cuts in ((off, False), (all_cuts, True)):
            table = torch.tensor([line], dtype=torch.float64, device=self._device)
            wanted.append(Draws(table, cuts))
        # Rows with changed logits are chosen from a float32 copy, in which -inf stands for a ban.
        for kind, banned in ((dtype, False), (torch.float32, True)):
            logits = torch.zeros((1, self._vocab_size), dtype=kind, device=self._device)
            for draws in wanted:
                tokens = choose(logits, draws, banned)[0]
            if not banned:
                top_logprobs(logits, tokens, 1)
                none = torch.zeros(1, dtype=torch.int64, device=self._device)
                words = torch.zeros((1, 1), dtype=torch.int32, device=self._device)
                take_rows(logits, none, words, none - 1)

    def launch(self, logits: torch.Tensor, sequences: tuple[Sequence, ...]) -> SampledTokens:
        """Queue the choice of each sequence's next token on the current stream.

        Args:
            logits: [sequences, vocabulary], any float dtype; may be overwritten by later work on the stream.
            sequences: one per row; all their earlier tokens are known.
        """
        # A padded vocabulary has columns behind the last token.
        logits = logits[:, : self._vocab_size]
        if sequences != self._plan.sequences:
            self._prepare(sequences, logits.shape[1])
        table = self._plan.draws()
        changed = [row for row in self._may_change if self._changes.apply_now(sequences[row])]
        if not changed:
            self._changes.forget()
            result = choose(logits, self._draws(table, logits.device))
        else:
            result = self._choose_changed(logits, sequences, table, changed)
        return SampledTokens(result, self._wanted, self._logprobs(logits, result[0]))

    def _prepare(self, sequences: tuple[Sequence, ...], vocab: int) -> None:
        """Work out what does not change while the same sequences decode together."""
        self._plan = SamplingPlan.build(sequences, vocab)
        self._may_change = [row for row, s in enumerate(sequences) if may_change_logits(s)]
        self._wanted = {
            row: count
            for row, sequence in enumerate(sequences)
            if (count := sequence.request.params.logprobs) is not None
        }

    def _draws(self, table: NDArray[np.float64] | None, device: torch.device) -> Draws | None:
        return None if table is None else Draws(_to_device(table, device), self._plan.cuts)

    def _choose_changed(
        self,
        logits: torch.Tensor,
        sequences: tuple[Sequence, ...],
        table: NDArray[np.float64] | None,
        changed: list[int],
    ) -> torch.Tensor:
        """Choose rows with changed logits again, from a float32 copy; the first time shows whether they are usable."""
        own = None
        if table is not None:
            own = self._draws(table[changed], logits.device)
            table[changed, Column.INVERSE_TEMPERATURE] = 0.0
        result = choose(logits, self._draws(table, logits.device))
        rows, adjusted = self._take(logits, changed, [sequences[row] for row in changed])
        result[0].index_copy_(0, rows, choose(adjusted, own, banned=True)[0])
        return result

    def _take(
        self, logits: torch.Tensor, changed: list[int], sequences: list[Sequence]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The numbers of the rows that change, and a float32 copy of them as their sequences want them."""
        masks, of_row = self._masks.fill(sequences)
        rows, of_row = _to_device(np.array([changed, of_row], dtype=np.int64), logits.device)
        adjusted = take_rows(logits, rows, masks.to(logits.device, non_blocking=True), of_row)
        for stage in self._changes.stages(sequences, logits.shape[1]):
            places, factors, addends = _to_device(stage, logits.device)
            changes = Changes(
                places.long(), factors.view(torch.float32), addends.view(torch.float32)
            )
            apply_changes(adjusted, changes)
        return rows, adjusted

    def _logprobs(self, logits: torch.Tensor, tokens: torch.Tensor) -> TopLogprobs | None:
        if not self._wanted:
            return None
        if len(self._wanted) < len(logits):
            rows = _to_device(np.array(list(self._wanted), dtype=np.int64), logits.device)
            logits, tokens = logits.index_select(0, rows), tokens.index_select(0, rows)
        return top_logprobs(logits, tokens, min(max(self._wanted.values()), logits.shape[-1]))


def _to_device(
    array: NDArray[np.float64] | NDArray[np.int64] | NDArray[np.int32], device: torch.device
) -> torch.Tensor:
    """A copy on the device, complete in stream order."""
    tensor = torch.from_numpy(array)
    if device.type != "cuda":
        return tensor
    # torch hands a pinned block out again only after the copies from it have ended.
    return tensor.pin_memory().to(device, non_blocking=True)


def _to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in pinned memory, complete once the stream has come here."""
    if not tensor.is_cuda:
        return tensor
    host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return host.copy_(tensor, non_blocking=True)
