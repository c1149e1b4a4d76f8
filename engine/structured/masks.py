"""Owns the masks of a step: which tokens each row may take."""

import numpy as np
import torch
from numpy.typing import NDArray

from loraplex.engine.sequence import Sequence
from loraplex.engine.structured.port import Matcher
from loraplex.engine.structured.xgrammar_library import XGrammarFiller, token_set


class Masks:
    """Makes the masks of each step in one place in memory: when a step is sampled, the one before has been read."""

    def __init__(
        self, vocab_size: int, eos_token_ids: tuple[int, ...], max_rows: int, pinned: bool
    ) -> None:
        """
        Args:
            vocab_size: real tokens.
            eos_token_ids: tokens that end a sequence, unless it ignores them.
            max_rows: most sequences in a step.
            pinned: whether masks go to a GPU.
        """
        self._no_ends = ~token_set(eos_token_ids, vocab_size)
        self._max_rows = max_rows
        self._pinned = pinned
        self._filler: XGrammarFiller | None = None
        self._memory = torch.zeros((1, 1), dtype=torch.int32)

    def fill(self, sequences: list[Sequence]) -> tuple[torch.Tensor, list[int]]:
        """What the next token of each sequence may be.

        Returns:
            Masks as `kernels.sampling.masks.take_rows` takes them, on the host, to be overwritten by the next call; and
            the number of each sequence's mask, -1 for none.
        """
        of_row = [-1] * len(sequences)
        matchers: list[Matcher] = []
        for row, sequence in enumerate(sequences):
            if sequence.matcher is not None:
                of_row[row] = len(matchers)
                matchers.append(sequence.matcher)
        if not matchers:
            return self._memory[:1], of_row
        if self._filler is None:
            self._filler = XGrammarFiller()
            shape = (self._max_rows, len(self._no_ends))
            self._memory = torch.zeros(shape, dtype=torch.int32, pin_memory=self._pinned)
        masks: NDArray[np.int32] = self._memory.numpy()
        self._filler.fill(matchers, masks)
        for row, sequence in enumerate(sequences):
            if of_row[row] >= 0 and sequence.request.params.ignore_eos:
                masks[of_row[row]] &= self._no_ends
        return self._memory[: len(matchers)], of_row
