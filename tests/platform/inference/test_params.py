"""Request fields arrive at the engine as they were meant."""

import msgspec
import pytest

from loraplex.engine.sampling_params import SamplingParams
from loraplex.platform.body import decode_body
from loraplex.platform.errors import BadRequestError
from loraplex.platform.inference.checks import check_chat, check_completion
from loraplex.platform.inference.params import chat_params, choices, completion_params
from loraplex.platform.inference.schemas import ChatRequest, CompletionRequest

ALL = {
    "temperature": 0.5,
    "top_p": 0.25,
    "top_k": 7,
    "min_p": 0.125,
    "min_tokens": 2,
    "max_tokens": 9,
    "ignore_eos": True,
    "stop": ["a", "b"],
    "stop_token_ids": [4, 5],
    "repetition_penalty": 1.5,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "seed": 11,
    "logit_bias": {"3": -2},
}


def completion(**fields: object) -> CompletionRequest:
    return decode_body(msgspec.json.encode({"model": "m", **fields}), CompletionRequest)


def chat(**fields: object) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "x"}], **fields}
    return decode_body(msgspec.json.encode(body), ChatRequest)


def test_every_sampling_field_is_passed_on() -> None:
    expected = SamplingParams(
        max_tokens=9,
        min_tokens=2,
        temperature=0.5,
        top_p=0.25,
        top_k=7,
        min_p=0.125,
        repetition_penalty=1.5,
        presence_penalty=0.5,
        frequency_penalty=-0.5,
        seed=11,
        stop=("a", "b"),
        stop_token_ids=(4, 5),
        ignore_eos=True,
        logprobs=3,
        logit_bias={3: -2.0},
    )
    assert completion_params(completion(**ALL, logprobs=3)) == expected
    assert chat_params(chat(**ALL, logprobs=True, top_logprobs=3)) == expected


def test_null_and_absent_mean_the_documented_defaults() -> None:
    nothing = dict.fromkeys([*ALL, "logprobs", "n", "stream", "stream_options", "user"], None)
    assert (
        completion_params(completion(**nothing))
        == completion_params(completion())
        == SamplingParams(max_tokens=16)
    )
    assert chat_params(chat(**nothing)) == chat_params(chat()) == SamplingParams(max_tokens=None)


def test_zero_is_a_value_and_not_a_default() -> None:
    params = completion_params(completion(temperature=0, logprobs=0, frequency_penalty=0))
    assert (params.temperature, params.logprobs) == (0.0, 0)


def test_one_stop_string_is_not_taken_apart() -> None:
    assert completion_params(completion(stop="END")).stop == ("END",)


def test_max_completion_tokens_goes_before_its_deprecated_name() -> None:
    assert chat_params(chat(max_completion_tokens=5, max_tokens=7)).max_tokens == 5
    assert chat_params(chat(max_tokens=7)).max_tokens == 7


def test_chat_logprobs_alone_ask_for_the_chosen_token_only() -> None:
    assert chat_params(chat(logprobs=True)).logprobs == 0
    assert chat_params(chat(logprobs=False)).logprobs is None


def test_every_answer_has_its_own_seed_and_the_first_the_given_one() -> None:
    seeds = [params.seed for params in choices(SamplingParams(seed=2**63 - 1), 3)]
    assert seeds[0] == 2**63 - 1
    assert len(set(seeds)) == 3
    assert all(seed is not None and 0 <= seed < 2**63 for seed in seeds)
    assert [params.seed for params in choices(SamplingParams(), 2)] == [None, None]


@pytest.mark.parametrize(
    "fields",
    [
        {
            "tools": [],
            "tool_choice": "auto",
            "parallel_tool_calls": True,
            "functions": [],
            "function_call": "none",
        },
        {
            "response_format": {"type": "text"},
            "modalities": ["text"],
            "store": False,
            "service_tier": "auto",
        },
        {
            "metadata": {"a": "b"},
            "user": "u",
            "safety_identifier": "s",
            "prompt_cache_key": "k",
            "verbosity": "medium",
        },
        {
            "audio": None,
            "prediction": None,
            "web_search_options": None,
            "moderation": None,
            "tools": None,
        },
        {
            "stream_options": {"include_usage": True},
            "prompt_cache_retention": "in_memory",
            "reasoning_effort": "none",
        },
    ],
)
def test_documented_fields_at_harmless_values_are_taken(fields: dict[str, object]) -> None:
    check_chat(chat(**fields))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("audio", {"voice": "x"}),
        ("prediction", {"type": "content"}),
        ("web_search_options", {"x": 1}),
        ("web_search_options", {}),
        ("function_call", {"name": "f"}),
        ("tool_choice", {"type": "function"}),
        ("service_tier", "scale"),
        ("prompt_cache_retention", "24h"),
        ("verbosity", "low"),
    ],
)
def test_and_refused_by_name_at_others(field: str, value: object) -> None:
    with pytest.raises(BadRequestError) as caught:
        check_chat(chat(**{field: value}))
    assert caught.value.param == field


def test_best_of_is_n_or_more_unless_streamed() -> None:
    for fields in ({"n": 3, "best_of": 3, "stream": True}, {"n": 2, "best_of": 20}, {"best_of": 0}):
        check_completion(completion(**fields))
    for fields in ({"n": 3, "best_of": 2}, {"best_of": 21}, {"best_of": 2, "stream": True}):
        with pytest.raises(BadRequestError) as error:
            check_completion(completion(**fields))
        assert error.value.param == "best_of"
    # What is best is told by log-probabilities.
    assert completion_params(completion(best_of=2)).logprobs == 0
    assert completion_params(completion(best_of=2, logprobs=3)).logprobs == 3
    assert completion_params(completion(best_of=1)).logprobs is None


def test_echo_with_logprobs_asks_for_those_of_the_prompt() -> None:
    assert completion_params(completion(echo=True, logprobs=2)).prompt_logprobs == 2
    assert completion_params(completion(echo=True)).prompt_logprobs is None
    assert completion_params(completion(logprobs=2)).prompt_logprobs is None


def test_no_tokens_at_all_are_for_completions_only() -> None:
    assert completion_params(completion(max_tokens=0)).max_tokens == 0
    for field in ("max_tokens", "max_completion_tokens"):
        with pytest.raises(BadRequestError) as error:
            chat_params(chat(**{field: 0}))
        assert error.value.param == field
        assert field in error.value.message


def test_stop_token_ids_are_counted() -> None:
    assert len(completion_params(completion(stop_token_ids=[1] * 1024)).stop_token_ids) == 1024
    for ask in (completion, chat):
        with pytest.raises(BadRequestError) as error:
            ask(stop_token_ids=[1] * 1025)
        assert (error.value.param, error.value.code) == ("stop_token_ids", "invalid_value")
