"""Owns how a caller wants tokens chosen: `SamplingParams`, validated once, with messages a user can act on."""

from dataclasses import dataclass, field

from loraplex.engine.pooling import Pooling
from loraplex.engine.structure import Structure

MAX_LOGPROBS = 20
MAX_STOP_STRINGS = 16
MAX_STOP_TOKEN_IDS = 1024


class InvalidParamsError(ValueError):
    """A sampling parameter is out of range; `param` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How to choose and when to stop.

    Attributes:
        max_tokens: most tokens to generate; None means up to the model's context length, 0 only computes the prompt.
        min_tokens: no stop of any kind before this many tokens.
        temperature: 0 is greedy.
        top_p, top_k, min_p: nucleus, count (0 = off) and relative-probability cuts, in that order of fame; all apply.
        repetition_penalty: divides (or multiplies negative) logits of tokens seen in prompt or output; 1 = off.
        presence_penalty, frequency_penalty: subtracted for tokens already generated.
        seed: same seed, prompt, model and parameters give the same tokens, whatever else is in the batch.
        stop: strings that end the text; not part of the result.
        stop_token_ids: token ids that end generation; not part of the text.
        ignore_eos: generate past the end-of-sequence token.
        visible_token_ids: special tokens that are part of the text, as others are not.
        logprobs: None for none; k for the chosen token's log-probability and the k most likely ones. They are those of
            the model itself, before temperature, penalties and cuts.
        prompt_logprobs: the same for every prompt token but the first. Such a prompt is computed whole, whatever the
            prefix cache holds.
        logit_bias: added to the logits of the given token ids.
        structure: the language that the text must belong to; None is any text. With `stop` or too few `max_tokens` the
            text can end inside it.
        pooling: a vector of the prompt is asked for, and no token: `max_tokens` must be 0.

    Raises:
        InvalidParamsError: on construction, naming the parameter.
    """

    max_tokens: int | None = 16
    min_tokens: int = 0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    visible_token_ids: tuple[int, ...] = ()
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    logit_bias: dict[int, float] = field(default_factory=dict)
    structure: Structure | None = None
    pooling: Pooling | None = None

    def __post_init__(self) -> None:
        _range("temperature", self.temperature, 0.0, 2.0)
        _range("top_p", self.top_p, 0.0, 1.0)
        _range("min_p", self.min_p, 0.0, 1.0)
        _range("presence_penalty", self.presence_penalty, -2.0, 2.0)
        _range("frequency_penalty", self.frequency_penalty, -2.0, 2.0)
        _check("top_p", self.top_p > 0, "must be above 0.")
        _check("top_k", self.top_k >= -1, "must be a positive count, or 0 (or -1) for all tokens.")
        _check(
            "repetition_penalty",
            0 < self.repetition_penalty < 100,
            "must be above 0 and below 100.",
        )
        _check(
            "max_tokens", self.max_tokens is None or self.max_tokens >= 0, "must not be negative."
        )
        _check("min_tokens", self.min_tokens >= 0, "must not be negative.")
        _check(
            "min_tokens",
            self.max_tokens is None or self.min_tokens <= self.max_tokens,
            "must not exceed max_tokens.",
        )
        _check(
            "stop", len(self.stop) <= MAX_STOP_STRINGS, f"takes at most {MAX_STOP_STRINGS} strings."
        )
        _check(
            "stop_token_ids",
            len(self.stop_token_ids) <= MAX_STOP_TOKEN_IDS,
            f"takes at most {MAX_STOP_TOKEN_IDS} ids.",
        )
        _check("stop", all(self.stop), "must not contain an empty string.")
        _check(
            "max_tokens",
            self.pooling is None or self.max_tokens == 0,
            "must be 0 where a vector is asked for.",
        )
        for name, count in (
            ("logprobs", self.logprobs),
            ("prompt_logprobs", self.prompt_logprobs),
        ):
            within = count is None or 0 <= count <= MAX_LOGPROBS
            _check(name, within, f"must lie between 0 and {MAX_LOGPROBS}.")
        for bias in self.logit_bias.values():
            _range("logit_bias", bias, -100.0, 100.0)
        if self.seed is not None:
            _check("seed", -(2**63) <= self.seed < 2**64, "must fit 64 bits.")

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0


def _range(param: str, value: float, low: float, high: float) -> None:
    # Written so that NaN fails too.
    _check(param, low <= value <= high, f"must lie between {low:g} and {high:g}.")


def _check(param: str, holds: bool, requirement: str) -> None:
    if not holds:
        raise InvalidParamsError(param, f"{param} {requirement}")
