"""Owns prompts with a suffix: how models trained to fill a gap are shown what stands before and behind it."""

from collections.abc import Sequence
from typing import NamedTuple

from loraplex.engine.tokenizer import Tokenizer
from loraplex.platform.errors import BadRequestError

# Part of a word in no vocabulary.
_JOINT = "\N{WHITE SMILING FACE}"


class Markers(NamedTuple):
    """The tokens around the three parts, and one that ends the middle though it may not end a text."""

    before: str
    behind: str
    middle: str
    end: str | None = None


FAMILIES = (
    Markers("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|endoftext|>"),  # Qwen Coder
    Markers("<fim_prefix>", "<fim_suffix>", "<fim_middle>", "<|endoftext|>"),  # StarCoder
    Markers("▁<PRE>", "▁<SUF>", "▁<MID>", "▁<EOT>"),  # Code Llama
    Markers("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek Coder
)


class Gap(NamedTuple):
    """How one model is asked to fill a gap; all are token ids."""

    before: list[int]
    behind: list[int]
    middle: list[int]
    stop: tuple[int, ...]

    def around(self, text: Sequence[int], suffix: Sequence[int]) -> list[int]:
        """The prompt that asks for what stands between the two."""
        return [*self.before, *text, *self.behind, *suffix, *self.middle]


def gap_of(tokenizer: Tokenizer) -> Gap:
    """How the model with this tokenizer fills gaps.

    Raises:
        BadRequestError: it does not know how.
    """
    for markers in FAMILIES:
        before, behind, middle = (tokenizer.token_id(token) for token in markers[:3])
        if before is None or behind is None or middle is None:
            continue
        end = None if markers.end is None else tokenizer.token_id(markers.end)
        beginning = tokenizer.encode("") if tokenizer.bos_token is not None else []
        bos = tokenizer.token_id(tokenizer.bos_token or "")
        start = [token for token in beginning if token == bos]
        return Gap([*start, before], [behind], [middle], () if end is None else (end,))
    raise BadRequestError(
        "suffix: this model has no tokens for filling in the middle; leave suffix out.",
        param="suffix",
        code="unsupported_value",
    )


def continued(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text that does not begin a line: tokenizers of words put a space in front of those that do."""
    if tokenizer.token_bytes is not None:
        return tokenizer.encode(text, add_special_tokens=False)
    joint = tokenizer.encode(_JOINT, add_special_tokens=False)
    joined = tokenizer.encode(_JOINT + text, add_special_tokens=False)
    if joined[: len(joint)] == joint:
        return joined[len(joint) :]
    return tokenizer.encode(text, add_special_tokens=False)
