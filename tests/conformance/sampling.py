"""Owns what is said of the fields that completions and chat share."""

from collections.abc import Callable

from conformance.judged import Ask, Effect, Field, Json, keeps_version, no, partly, supported

ADAPTER = "tuned"  # whose chat template knows no functions
WHO_ASKS = "keeps its version of an alias that is split"


def sampling_fields(  # noqa: C901 - an effect for each field
    text: Callable[[Json], str], length: int, limit: str
) -> tuple[Field, ...]:
    """The fields, for answers of `length` tokens, as `limit` says, whose first choice has a `text`."""
    brief = {limit: 1}

    def model(ask: Ask) -> None:
        base, tuned = ask(), ask(model=ADAPTER)
        assert (base["model"], tuned["model"]) == ("base", ADAPTER)
        assert text(base) != text(tuned)
        answer = ask.raw(model="nobody")
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (
            404,
            "model_not_found",
            "model",
        )

    def penalised(name: str) -> Effect:
        def effect(ask: Ask) -> None:
            # Of a few letters that stand before all others, those that have come give way.
            letters = {"logit_bias": {str(token): 100 for token in range(66, 76)}}
            plain, changed = text(ask(**letters)), text(ask(**letters, **{name: 2}))
            assert len(set(changed)) > len(set(plain))

        return effect

    def logit_bias(ask: Ask) -> None:
        assert len(set(text(ask(logit_bias={"66": 100})))) == 1
        assert text(ask(logit_bias={"66": 100})) != text(ask(logit_bias={"67": 100}))

    def n(ask: Ask) -> None:
        answer = ask(n=3, temperature=1, seed=1)
        assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
        assert answer["usage"]["completion_tokens"] == 3 * length
        assert answer["usage"]["prompt_tokens"] == ask()["usage"]["prompt_tokens"]

    def seed(ask: Ask) -> None:
        first, again, other = (text(ask(temperature=1, seed=number)) for number in (5, 5, 6))
        assert first == again != other

    def stop(ask: Ask) -> None:
        biased = {"logit_bias": {"66": 100}}
        letter = text(ask(**biased))[0]
        answer = ask(**biased, stop=letter * 2)
        assert (text(answer), answer["choices"][0]["finish_reason"]) == ("", "stop")
        assert text(ask(**biased, stop=["zzz", letter * 3])) == ""

    def stream(ask: Ask) -> None:
        chunks = ask.chunks()
        assert len({(chunk["id"], chunk["created"]) for chunk in chunks}) == 1
        told = [each.get("delta", each) for chunk in chunks for each in chunk["choices"]]
        assert "".join(each.get("content", each.get("text", "")) for each in told) == text(ask())
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks]
        assert reasons[-1] == "length"
        assert set(reasons[:-1]) <= {None}
        assert all("usage" not in chunk for chunk in chunks)

    def include_usage(ask: Ask) -> None:
        *chunks, last = ask.chunks(stream_options={"include_usage": True})
        assert all(chunk["usage"] is None for chunk in chunks)
        assert last["choices"] == []
        assert last["usage"]["completion_tokens"] == length

    def include_obfuscation(ask: Ask) -> None:
        chunks = ask.chunks(stream_options={"include_obfuscation": True})
        assert len({len(chunk["obfuscation"]) for chunk in chunks}) > 1
        assert all("obfuscation" not in chunk for chunk in ask.chunks())

    def temperature(ask: Ask) -> None:
        assert text(ask()) == text(ask())
        assert text(ask(temperature=2, seed=1)) != text(ask())

    def top_p(ask: Ask) -> None:
        assert text(ask(temperature=1, seed=1, top_p=1e-6)) == text(ask())
        assert text(ask(temperature=1, seed=1)) != text(ask())

    bad = "invalid_value"
    return (
        supported(
            "model",
            model,
            no("missing_required_parameter", model=...),
            note="a base model, or an adapter of the tenant",
        ),
        *(
            supported(
                name,
                penalised(name),
                no(bad, **{name: -2.1}),
                no(bad, **{name: 2.1}),
                note="-2 to 2",
            )
            for name in ("frequency_penalty", "presence_penalty")
        ),
        supported(
            "logit_bias",
            logit_bias,
            no(bad, logit_bias={"66": 101}),
            no(bad, logit_bias={"x": 1}),
            note="-100 to 100",
        ),
        supported("n", n, no(bad, n=0), no(bad, n=129), note="1 to 128"),
        supported("seed", seed, no(bad, seed=2**63), note="64 bits"),
        supported(
            "stop", stop, no(bad, stop=[""]), no(bad, stop=["a"] * 17), note="up to 16 strings"
        ),
        supported("stream", stream, no(bad, stream="yes")),
        supported("stream_options", include_usage, no(bad, stream_options=1)),
        supported("stream_options.include_usage", include_usage),
        supported(
            "stream_options.include_obfuscation", include_obfuscation, note="off unless asked for"
        ),
        supported(
            "temperature",
            temperature,
            no(bad, temperature=-0.1),
            no(bad, temperature=2.1),
            note="0 to 2",
        ),
        partly("top_p", "above 0, up to 1", top_p, no(bad, top_p=0), no(bad, top_p=1.1)),
        supported("user", keeps_version("user", **brief), no(bad, user=1), note=WHO_ASKS),
    )
