"""Owns which tokens a sequence has, how often, kept up to date one token at a time."""

import numpy as np
from numpy.typing import NDArray

from loraplex.engine.sequence import Sequence


class TokenCounts:
    """Distinct tokens of one sequence, in order of appearance.

    Counting anew in every step would cost host time in proportion to the length of every sequence.
    """

    def __init__(self, sequence: Sequence) -> None:
        prompt = sequence.tokens[: sequence.num_prompt]
        self._index = {token: place for place, token in enumerate(dict.fromkeys(prompt))}
        self._ids = np.fromiter(self._index, dtype=np.int32, count=len(self._index))
        self._outputs = np.zeros(len(self._ids), dtype=np.int32)
        self._seen = len(prompt)

    def update(self, sequence: Sequence) -> None:
        """Take in the tokens since the last call for the same sequence."""
        for token in sequence.tokens[self._seen :]:
            self._add(token)
        self._seen = len(sequence.tokens)

    @property
    def ids(self) -> NDArray[np.int32]:
        """Distinct tokens of prompt and output."""
        return self._ids[: len(self._index)]

    @property
    def outputs(self) -> NDArray[np.int32]:
        """How often each of `ids` was generated."""
        return self._outputs[: len(self._index)]

    def _add(self, token: int) -> None:
        place = self._index.setdefault(token, len(self._index))
        if place == len(self._ids):
            self._ids = np.concatenate((self._ids, np.empty_like(self._ids)))
            self._outputs = np.concatenate((self._outputs, np.zeros_like(self._outputs)))
        self._ids[place] = token
        self._outputs[place] += 1
