"""Each sampling parameter does what its documentation says, row by row and reproducibly."""

import pytest
import torch

from loraplex.engine.request import Request
from loraplex.engine.sampler import Sampler
from loraplex.engine.sampling_params import InvalidParamsError, SamplingParams
from loraplex.engine.sequence import Sequence

VOCAB = 50
EOS = 3


def sequence(
    params: SamplingParams, output: tuple[int, ...] = (), prompt: tuple[int, ...] = (1,)
) -> Sequence:
    seq = Sequence(Request("r", prompt, params), 0, None)
    seq.tokens += output
    return seq


def draw(logits: torch.Tensor, params: SamplingParams, times: int = 300) -> list[int]:
    """One draw per seed."""
    sampler = Sampler((EOS,))
    result = []
    for seed in range(times):
        seq = sequence(params)
        seq.seed = seed
        token = sampler.sample(logits[None], (seq,))[0].token_id
        assert token is not None
        result.append(token)
    return result


def test_greedy_takes_the_maximum() -> None:
    logits = torch.randn(4, VOCAB)
    sampled = Sampler(()).sample(
        logits, tuple(sequence(SamplingParams(temperature=0)) for _ in range(4))
    )
    assert [s.token_id for s in sampled] == logits.argmax(-1).tolist()


def test_frequencies_follow_the_softmax() -> None:
    logits = torch.full((VOCAB,), -1e9)
    logits[:4] = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    tokens = torch.tensor(draw(logits, SamplingParams(), 4000))
    shares = tokens.bincount(minlength=4)[:4] / 4000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.03, rtol=0)


@pytest.mark.parametrize(
    ("params", "allowed"),
    [
        (SamplingParams(top_k=2), {7, 8}),
        (SamplingParams(top_p=0.6), {7, 8}),
        (SamplingParams(top_p=0.01), {7}),
        (SamplingParams(min_p=0.4), {7, 8}),
        (SamplingParams(top_k=1, temperature=2.0), {7}),
    ],
    ids=["top_k", "top_p", "tiny top_p", "min_p", "top_k 1"],
)
def test_cuts(params: SamplingParams, allowed: set[int]) -> None:
    logits = torch.full((VOCAB,), -20.0)
    logits[7], logits[8], logits[9] = torch.tensor([0.5, 0.3, 0.15]).log()
    assert set(draw(logits, params)) == allowed


def test_same_seed_same_token_whatever_the_neighbours() -> None:
    sampler = Sampler(())
    logits = torch.randn(9, VOCAB)
    params = SamplingParams(seed=5, top_p=0.9, top_k=30)
    alone = sampler.sample(logits[4:5], (sequence(params),))[0].token_id
    mixed = [sequence(SamplingParams(temperature=t, seed=i)) for i, t in enumerate((0, 1, 2, 0.5))]
    batch = sampler.sample(logits, (*mixed, sequence(params), *mixed))
    assert batch[4].token_id == alone


def test_seed_moves_on_with_the_position() -> None:
    sampler = Sampler(())
    logits = torch.zeros(1, VOCAB)
    tokens = {
        sampler.sample(logits, (sequence(SamplingParams(seed=1), output=(0,) * n),))[0].token_id
        for n in range(20)
    }
    assert len(tokens) > 5


def test_repetition_penalty_matches_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(VOCAB)
    seq = sequence(SamplingParams(temperature=0, repetition_penalty=1.7), (4, 9), prompt=(1, 2))
    expected = RepetitionPenaltyLogitsProcessor(1.7)(
        torch.tensor([seq.tokens]), logits[None].clone()
    )[0]
    logits[4] = expected[4] = (
        100.0  # the penalised winner must lose to nobody else than the processor says
    )
    row = logits.clone()
    Sampler(())._adjust_row(row, seq)
    expected[4] = 100.0 / 1.7
    torch.testing.assert_close(row, expected)


def test_presence_and_frequency_penalties_count_output_only() -> None:
    row = torch.zeros(VOCAB)
    params = SamplingParams(presence_penalty=0.5, frequency_penalty=0.25)
    Sampler(())._adjust_row(row, sequence(params, (4, 4, 9), prompt=(1, 2)))
    assert row[4] == -1.0
    assert row[9] == -0.75
    assert row[1] == row[2] == 0


def test_min_tokens_forbids_every_stop() -> None:
    logits = torch.zeros(1, VOCAB)
    logits[0, EOS], logits[0, 6], logits[0, 7] = 9, 8, 7
    params = SamplingParams(temperature=0, min_tokens=2, stop_token_ids=(6,))
    sampler = Sampler((EOS,))
    assert sampler.sample(logits, (sequence(params, (1,)),))[0].token_id == 7
    assert sampler.sample(logits, (sequence(params, (1, 1)),))[0].token_id == EOS


def test_logit_bias_bans_and_forces() -> None:
    logits = torch.zeros(1, VOCAB)
    params = SamplingParams(temperature=0, logit_bias={5: 100.0})
    assert Sampler(()).sample(logits, (sequence(params),))[0].token_id == 5


def test_logprobs_are_the_models_own_before_temperature_and_cuts() -> None:
    logits = torch.randn(1, VOCAB)
    params = SamplingParams(temperature=0.1, top_k=1, logprobs=3, logit_bias={0: 50.0})
    choice = Sampler(()).sample(logits, (sequence(params),))[0]
    expected = logits[0].log_softmax(-1)
    assert choice.logprob is not None
    assert choice.logprob.token_id == 0
    assert choice.logprob.logprob == pytest.approx(float(expected[0]), abs=1e-5)
    assert [i for i, _ in choice.logprob.top] == expected.topk(3).indices.tolist()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_unusable_row_fails_alone(bad: float) -> None:
    logits = torch.randn(3, VOCAB)
    logits[1, 10] = bad
    params = SamplingParams(temperature=1.0, seed=1)
    sampled = Sampler(()).sample(logits, tuple(sequence(params) for _ in range(3)))
    assert sampled[1].token_id is None
    assert sampled[0].token_id is not None
    assert sampled[2].token_id is not None


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_k", -2),
        ("min_p", 1.5),
        ("max_tokens", 0),
        ("min_tokens", 99),
        ("logprobs", 21),
        ("stop", ("",)),
        ("stop_token_ids", (1,) * 1025),
        ("repetition_penalty", 0.0),
        ("presence_penalty", 3.0),
        ("logit_bias", {1: 101.0}),
        ("seed", 2**70),
    ],
)
def test_bad_parameter_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidParamsError) as error:
        SamplingParams(**{field: value})  # type: ignore[arg-type]  # wrong values are the point
    assert error.value.param == field
    assert field in str(error.value)
