"""Owns what is said of /v1/models."""

from conformance.judged import Ask, Json, Route


def answers(ask: Ask) -> list[Json]:
    listed = ask.http.get("/v1/models").json()
    one = ask.http.get("/v1/models/base").json()
    assert listed["data"] == [one]
    return [listed]


ROUTE = Route(
    "models",
    "/v1/models",
    {},
    (),
    {
        "object": True,
        "data": True,
        "data[].id": True,
        "data[].object": True,
        "data[].created": True,
        "data[].owned_by": True,
        "data[].shutdown_date": False,
    },
    answers,
)
