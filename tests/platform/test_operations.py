"""What operators look at: health, readiness, metrics, the schema, the page at `/`."""

from sqlalchemy import text

from support.services import OPERATOR, Api, bearer, sqlite_only


@sqlite_only
async def test_health_needs_nothing(api: Api) -> None:
    api.engines.is_ready = False
    answer = await api.client.get("/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


async def test_ready_follows_the_engines(api: Api) -> None:
    assert (await api.client.get("/ready")).status_code == 200
    api.engines.is_ready = False
    answer = await api.client.get("/ready")
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "engines": False, "database": True, "draining": False}


async def test_ready_follows_the_schema(api: Api) -> None:
    rename = "ALTER TABLE {} RENAME TO {}"
    async with api.database.weights.transaction() as connection:
        await connection.execute(text(rename.format("alembic_version", "gone")))
    try:
        answer = await api.client.get("/ready")
    finally:
        async with api.database.weights.transaction() as connection:
            await connection.execute(text(rename.format("gone", "alembic_version")))
    assert answer.status_code == 503
    assert answer.json() == {"ready": False, "engines": True, "database": False, "draining": False}


@sqlite_only
async def test_metrics_count_requests_and_show_engines(api: Api) -> None:
    key = await api.tenant("acme")
    await api.client.get("/api/v1/adapters/some-secret-name", headers=bearer(key))
    await api.client.get("/v1/models", headers=bearer("lpx_wrong"))
    answer = await api.client.get("/metrics", headers=bearer(OPERATOR))
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = answer.text.splitlines()
    template = 'method="GET",route="/api/v1/adapters/{name}",status="404"'
    assert f"loraplex_http_requests_total{{{template}}} 1.0" in lines
    unauthorised = 'method="GET",route="/v1/models",status="401"'
    assert f"loraplex_http_requests_total{{{unauthorised}}} 1.0" in lines
    assert 'loraplex_engine_kv_usage{base_model="tiny"} 0.5' in lines
    assert "some-secret-name" not in answer.text
    assert "acme" not in answer.text


@sqlite_only
async def test_the_schema_documents_every_route_and_loads_nothing_from_elsewhere(api: Api) -> None:
    answer = await api.client.get("/schema")
    assert answer.status_code == 200
    schema = answer.json()
    assert schema["components"]["securitySchemes"]["key"]["scheme"] == "bearer"
    paths = set(schema["paths"])
    assert {
        "/api/v1/tenants",
        "/api/v1/adapters/{name}/aliases/{alias}",
        "/api/v1/uploads/{upload_id}",
        "/v1/models",
        "/ready",
    } <= paths
    push = schema["paths"]["/api/v1/adapters"]["post"]
    assert "multipart/form-data" in push["requestBody"]["content"]
    assert (await api.client.get("/schema/openapi.json")).json() == schema
