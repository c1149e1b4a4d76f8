"""Owns what is said of /v1/models."""

from openai.types import Model

from conformance.judged import Ask, Json, Reply, Route, at
from conformance.sampling import ADAPTER


def answers(ask: Ask) -> list[Json]:
    listed = ask()
    assert listed["object"] == "list"
    models = {model["id"]: model for model in listed["data"]}
    assert [model["object"] for model in models.values()] == ["model"] * len(models)
    assert set(models) >= {"base", ADAPTER}
    assert (models["base"]["root"], models["base"]["parent"]) == ("base", None)
    assert (models[ADAPTER]["root"], models[ADAPTER]["parent"]) == ("base", "base")
    assert models[ADAPTER]["owned_by"] == "t"
    for name, model in models.items():
        assert ask.at(f"/v1/models/{name}")() == model
    return list(models.values())


ROUTE = Route(
    "Models",
    "GET /v1/models, GET /v1/models/{model}",
    None,
    at("/v1/models", {}, "query"),
    (),
    (
        Reply(
            "",
            Model,
            answers,
            ("id", "object", "created", "owned_by"),
            never=("shutdown_date",),
            extras=("root", "parent", "max_model_len"),
        ),
    ),
)
