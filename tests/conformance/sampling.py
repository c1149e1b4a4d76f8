"""Owns what is said of the fields that completions and chat share."""

from collections.abc import Callable

from conformance.judged import Ask, Field, Json, Status


def sampling_fields(  # noqa: C901 - an effect for each field
    text: Callable[[Json], str], length: int
) -> tuple[Field, ...]:
    """The fields, for answers of `length` tokens whose first choice has a `text`."""

    def model(ask: Ask) -> None:
        assert ask()["model"] == "base"
        answer = ask.raw(model="nobody")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")

    def penalised(name: str) -> Callable[[Ask], None]:
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
        assert len({chunk["id"] for chunk in chunks}) == 1
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
        assert all(
            c["obfuscation"] for c in ask.chunks(stream_options={"include_obfuscation": True})
        )
        assert all("obfuscation" not in chunk for chunk in ask.chunks())

    def temperature(ask: Ask) -> None:
        assert text(ask()) == text(ask())
        assert text(ask(temperature=2, seed=1)) != text(ask())

    def top_p(ask: Ask) -> None:
        assert text(ask(temperature=1, seed=1, top_p=1e-6)) == text(ask())
        assert text(ask(temperature=1, seed=1)) != text(ask())

    def out_of(name: str, *values: float) -> tuple[dict[str, float], ...]:
        return tuple({name: value} for value in values)

    supported = Status.SUPPORTED
    return (
        Field(
            "model",
            supported,
            "a base model, or an adapter of the tenant",
            model,
            ({"model": ...},),
        ),
        *(
            Field(name, supported, "-2 to 2", penalised(name), out_of(name, -2.1, 2.1))
            for name in ("frequency_penalty", "presence_penalty")
        ),
        Field(
            "logit_bias",
            supported,
            "-100 to 100",
            logit_bias,
            ({"logit_bias": {"66": 101}}, {"logit_bias": {"x": 1}}),
        ),
        Field("n", supported, "1 to 128", n, out_of("n", 0, 129)),
        Field("seed", supported, "", seed, out_of("seed", 2**63)),
        Field("stop", supported, "up to 16 strings", stop, ({"stop": [""]}, {"stop": ["a"] * 17})),
        Field("stream", supported, "", stream, ({"stream": "yes"},)),
        Field("stream_options.include_usage", supported, "", include_usage),
        Field(
            "stream_options.include_obfuscation", supported, "off by default", include_obfuscation
        ),
        Field("temperature", supported, "0 to 2", temperature, out_of("temperature", -0.1, 2.1)),
        Field("top_p", Status.PARTLY, "above 0, up to 1", top_p, out_of("top_p", 0, 1.1)),
    )
