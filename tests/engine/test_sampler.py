"""Each sampling parameter does what its documentation says, row by row and reproducibly."""

import warnings

import pytest
import torch

from loraplex.engine.request import Request
from loraplex.engine.sampler import Sampled, Sampler
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


def sample(
    logits: torch.Tensor, *sequences: Sequence, eos: tuple[int, ...] = (EOS,)
) -> list[Sampled]:
    """One row of logits per sequence."""
    sampler = Sampler(eos, logits.shape[1], len(logits), logits.device)
    return sampler.launch(logits, sequences).read()


def adjusted(logits: torch.Tensor, seq: Sequence) -> torch.Tensor:
    """What penalties and biases make of a row."""
    sampler = Sampler((EOS,), len(logits), 1, logits.device)
    return sampler._take(logits[None], [0], [seq])[1][0]


def draw(logits: torch.Tensor, params: SamplingParams, times: int = 300) -> list[int]:
    """One draw per seed."""
    sequences = [sequence(params) for _ in range(times)]
    for seed, seq in enumerate(sequences):
        seq.seed = seed
    tokens = [sampled.token_id for sampled in sample(logits.expand(times, -1), *sequences)]
    assert None not in tokens
    return [token for token in tokens if token is not None]


def test_greedy_takes_the_maximum() -> None:
    logits = torch.randn(4, VOCAB)
    sampled = sample(logits, *(sequence(SamplingParams(temperature=0)) for _ in range(4)))
    assert [s.token_id for s in sampled] == logits.argmax(-1).tolist()


def test_padding_of_the_vocabulary_is_never_chosen() -> None:
    logits = torch.zeros(2, VOCAB + 6)
    logits[:, VOCAB:] = 9.0
    logits[0, 4] = 1.0
    sampler = Sampler((), VOCAB, 2, logits.device)
    launched = sampler.launch(
        logits,
        (sequence(SamplingParams(temperature=0, logprobs=20)), sequence(SamplingParams(seed=1))),
    )
    assert launched.token_ids[0] == 4
    assert launched.token_ids[1] < VOCAB
    logprob = launched.read()[0].logprob
    assert logprob is not None
    assert max(token for token, _ in logprob.top) < VOCAB


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
    logits = torch.randn(9, VOCAB)
    params = SamplingParams(seed=5, top_p=0.9, top_k=30)
    alone = sample(logits[4:5], sequence(params))[0].token_id
    mixed = [
        sequence(SamplingParams(temperature=0, presence_penalty=1.0), (3, 3)),
        sequence(SamplingParams(temperature=1, seed=1)),
        sequence(SamplingParams(temperature=2, seed=2, min_p=0.1, logprobs=2)),
        sequence(SamplingParams(temperature=0.5, seed=3, logit_bias={1: -100.0})),
    ]
    batch = sample(logits, *mixed, sequence(params), *mixed)
    assert batch[4].token_id == alone


def test_greedy_rows_among_others_take_the_maximum() -> None:
    logits = torch.randn(3, VOCAB)
    others = [sequence(SamplingParams(top_p=0.5)), sequence(SamplingParams(frequency_penalty=1.0))]
    batch = sample(logits, others[0], sequence(SamplingParams(temperature=0)), others[1])
    assert batch[1].token_id == int(logits[1].argmax())


def test_seed_moves_on_with_the_position() -> None:
    params = SamplingParams(seed=1)
    tokens = {
        sample(torch.zeros(1, VOCAB), sequence(params, (0,) * n))[0].token_id for n in range(20)
    }
    assert len(tokens) > 5


def test_repetition_penalty_matches_transformers() -> None:
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = torch.randn(VOCAB)
    logits[4] = 100.0
    seq = sequence(SamplingParams(temperature=0, repetition_penalty=1.7), (4, 9), prompt=(1, 2))
    expected = RepetitionPenaltyLogitsProcessor(1.7)(
        torch.tensor([seq.tokens]), logits[None].clone()
    )[0]
    torch.testing.assert_close(adjusted(logits, seq), expected)


def test_presence_and_frequency_penalties_count_output_only() -> None:
    params = SamplingParams(presence_penalty=0.5, frequency_penalty=0.25)
    row = adjusted(torch.zeros(VOCAB), sequence(params, (4, 4, 9), prompt=(1, 2)))
    expected = torch.zeros(VOCAB)
    expected[4], expected[9] = -1.0, -0.75
    assert torch.equal(row, expected)


def test_penalties_follow_a_sequence_step_by_step() -> None:
    params = SamplingParams(temperature=0, frequency_penalty=0.5, repetition_penalty=1.5)
    first, second = sequence(params, prompt=(7, 8, 8)), sequence(params, prompt=(9,))
    sampler = Sampler((), VOCAB, 2, torch.device("cpu"))
    for step in range(90):  # enough distinct tokens for the counts to grow
        logits = torch.randn(2, VOCAB)
        # A sequence may miss steps, and change its row.
        rows = {0: (first,), 1: (second, first)}.get(step % 3, (first, second))
        for seq, outcome in zip(
            rows, sampler.launch(logits[: len(rows)], rows).read(), strict=True
        ):
            row = logits[rows.index(seq)]
            assert outcome.token_id == int(adjusted(row, seq).argmax())
            by_hand = row.clone()
            for token in set(seq.tokens):
                by_hand[token] = by_hand[token] * (1.5 if by_hand[token] < 0 else 1 / 1.5)
            for token in seq.tokens[seq.num_prompt :]:
                by_hand[token] -= 0.5
            torch.testing.assert_close(adjusted(row, seq), by_hand)
            assert outcome.token_id is not None
            seq.tokens.append(outcome.token_id)


def test_min_tokens_forbids_every_stop() -> None:
    logits = torch.zeros(1, VOCAB)
    logits[0, EOS], logits[0, 6], logits[0, 7] = 9, 8, 7
    params = SamplingParams(temperature=0, min_tokens=2, stop_token_ids=(6, EOS))
    assert sample(logits, sequence(params, (1,)))[0].token_id == 7
    assert sample(logits, sequence(params, (1, 1)))[0].token_id == EOS


def test_logit_bias_bans_and_forces() -> None:
    logits = torch.zeros(1, VOCAB)
    assert (
        sample(logits, sequence(SamplingParams(temperature=0, logit_bias={5: 100.0})))[0].token_id
        == 5
    )
    logits[0, 8] = 50.0
    params = SamplingParams(logit_bias={8: -100.0}, seed=1)
    assert sample(logits, sequence(params))[0].token_id != 8


def test_logprobs_are_the_models_own_before_temperature_and_cuts() -> None:
    logits = torch.randn(3, VOCAB)
    params = SamplingParams(temperature=0.1, top_k=1, logprobs=3, logit_bias={0: 50.0})
    greedy = SamplingParams(temperature=0)
    batch = sample(logits, sequence(SamplingParams(logprobs=0)), sequence(greedy), sequence(params))
    expected = logits[2].log_softmax(-1)
    assert batch[0].logprob is not None
    assert batch[0].logprob.top == ()
    assert batch[1].logprob is None
    logprob = batch[2].logprob
    assert logprob is not None
    assert logprob.token_id == batch[2].token_id == 0
    assert logprob.logprob == pytest.approx(float(expected[0]), abs=1e-5)
    assert [i for i, _ in logprob.top] == expected.topk(3).indices.tolist()
    assert [v for _, v in logprob.top] == pytest.approx(expected.topk(3).values.tolist(), abs=1e-5)


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_unusable_row_fails_alone(bad: float, penalty: float) -> None:
    logits = torch.randn(3, VOCAB)
    logits[1, 10] = bad
    params = SamplingParams(temperature=1.0, seed=1, presence_penalty=penalty, logprobs=1)
    rows = [sequence(params, (4,)) for _ in range(3)]
    sampler = Sampler((), VOCAB, 3, logits.device)
    launched = sampler.launch(logits, tuple(rows))
    sampled = launched.read()
    assert sampled[1] == Sampled(None, None)
    # The next step looks this token up before the host knows better.
    assert 0 <= launched.token_ids[1] < VOCAB
    assert sampled[0] == sample(logits[:1], rows[0])[0]
    assert sampled[2].token_id is not None


def test_two_launches_are_read_in_any_order() -> None:
    sampler = Sampler((), VOCAB, 2, torch.device("cpu"))
    logits = torch.randn(2, 2, VOCAB)
    rows = tuple(sequence(SamplingParams(temperature=0, logprobs=1)) for _ in range(2))
    first, second = (sampler.launch(part, rows) for part in logits)
    for launched, part in ((second, logits[1]), (first, logits[0])):
        assert [s.token_id for s in launched.read()] == part.argmax(-1).tolist()


@pytest.mark.gpu
def test_launch_never_waits_for_the_device() -> None:
    device = torch.device("cuda")
    sampler = Sampler((EOS,), VOCAB, 8, device)
    logits = torch.randn(8, VOCAB, device=device)
    rows = tuple(
        sequence(params, (4, 4))
        for params in (
            SamplingParams(temperature=0),
            SamplingParams(),
            SamplingParams(top_p=0.9, top_k=9, min_p=0.01, logprobs=4),
            SamplingParams(temperature=0, presence_penalty=1.0, repetition_penalty=1.2),
            SamplingParams(logit_bias={4: 1.0}, min_tokens=9),
        )
    )
    sampler.warm_up(logits.dtype)
    sampler.launch(logits[:5], rows).read()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch calls the mode a prototype
            torch.cuda.set_sync_debug_mode("error")
        launched = sampler.launch(logits[:5], rows)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    logits.fill_(torch.nan)  # later work on the stream may overwrite them
    assert all(outcome.token_id is not None for outcome in launched.read())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", 2.1),
        ("temperature", float("nan")),
        ("top_p", 0.0),
        ("top_k", -2),
        ("min_p", 1.5),
        ("max_tokens", -1),
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
