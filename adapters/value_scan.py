"""Owns looking at every value of a weights file as it streams by: NaN, infinity and runaway values are refused, and
tensors of zeros are remembered."""

import numpy as np
import numpy.typing as npt

from loraplex.adapters.errors import AdapterRejected
from loraplex.adapters.safetensors_header import DTYPE_BYTES, Header, TensorInfo
from loraplex.adapters.strict_json import quote

# Without the sign bit, IEEE bit patterns sort like magnitudes: finite < infinity < NaN.
_WORD: dict[int, npt.DTypeLike] = {2: "<u2", 4: "<u4"}
_MAGNITUDE = {2: 0x7FFF, 4: 0x7FFFFFFF}
_INFINITY = {"F32": 0x7F800000, "F16": 0x7C00, "BF16": 0x7F80}
# Largest magnitude allowed, 2**15: no trained LoRA comes near, and it fits float16.
_HUGE = {"F32": 0x47000000, "F16": 0x7800, "BF16": 0x4700}
# Large enough to hide Python's share, small enough for the processor's cache.
_BLOCK_BYTES = 256 * 1024


class ValueScan:
    """Fed the bytes behind the header, in order, in pieces of any size.

    Attributes:
        zeros: names of tensors seen whole that hold nothing but zeros.
    """

    def __init__(self, header: Header) -> None:
        self.zeros: list[str] = []
        self._tensors = header.tensors
        self._index = 0
        self._position = 0
        self._peak = 0
        self._carry = b""  # the first bytes of a value whose last ones are in the next piece

    def feed(self, piece: bytes | memoryview) -> None:
        """Scan the next bytes.

        Raises:
            AdapterRejected: a value is NaN, infinite or beyond 2**15, or there are more bytes than tensors.
        """
        view = memoryview(piece).cast("B")
        while len(view):
            if self._index == len(self._tensors):
                raise AdapterRejected(
                    "weights", "the weights file has bytes behind its last tensor."
                )
            tensor = self._tensors[self._index]
            size = min(len(view), tensor.end - self._position, _BLOCK_BYTES)
            self._scan(tensor, view[:size])
            view = view[size:]
            self._position += size
            if self._position == tensor.end:
                if self._peak == 0:
                    self.zeros.append(tensor.name)
                self._index += 1
                self._peak = 0

    def finish(self) -> None:
        """Say that the file ended.

        Raises:
            AdapterRejected: it ended before its last tensor did.
        """
        if self._index < len(self._tensors):
            missing = self._tensors[-1].end - self._position
            raise AdapterRejected(
                "weights", f"the weights file is truncated: {missing} bytes are missing."
            )

    def _scan(self, tensor: TensorInfo, view: memoryview) -> None:
        width = DTYPE_BYTES[tensor.dtype]
        if self._carry:
            fill = width - len(self._carry)
            word = self._carry + bytes(view[:fill])
            view = view[fill:]
            if len(word) < width:
                self._carry = word
                return
            self._carry = b""
            self._judge(tensor, word, width)
        whole = len(view) - len(view) % width
        if whole:
            self._judge(tensor, view[:whole], width)
        self._carry = bytes(view[whole:])

    def _judge(self, tensor: TensorInfo, words: bytes | memoryview, width: int) -> None:
        magnitudes = np.frombuffer(words, _WORD[width]) & _MAGNITUDE[width]
        peak = int(magnitudes.max())
        self._peak = max(self._peak, peak)
        if peak <= _HUGE[tensor.dtype]:
            return
        infinity = _INFINITY[tensor.dtype]
        if peak < infinity:
            fault = "a value beyond 32768, so the training has diverged; retrain with a lower rate"
        elif peak == infinity:
            fault = "an infinite value; push an earlier checkpoint"
        else:
            fault = "a NaN; push an earlier checkpoint"
        raise AdapterRejected("weights", f"tensor {quote(tensor.name)} holds {fault}.")
