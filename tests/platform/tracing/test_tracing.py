"""What arrives at a real OTLP receiver: one trace from the caller through the API worker to the parts of the engine."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from litestar import Litestar, get
from litestar.params import FromPath
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from loraplex.engine.request import Timings
from loraplex.platform.engines.outcome import Outcome
from loraplex.platform.settings import Settings
from loraplex.platform.tracing.middleware import TraceRequests
from loraplex.platform.tracing.tracing import Tracing
from support.served import served
from support.services import sqlite_only

CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Receiver:
    """A server that takes traces as OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resource: dict[str, str] = {}
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = int(self.headers["content-length"])
                message = ExportTraceServiceRequest.FromString(self.rfile.read(size))
                for group in message.resource_spans:
                    receiver.resource |= {
                        a.key: a.value.string_value for a in group.resource.attributes
                    }
                    for scope in group.scope_spans:
                        receiver.spans += scope.spans
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: object) -> None: ...

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def by_name(self) -> dict[str, Span]:
        return {span.name: span for span in self.spans}

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    receiver = Receiver()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
    # The exporter must not look for a proxy on its way to this machine.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield receiver
    receiver.close()


def outcome(reason: str = "stop", timings: Timings | None = None) -> Outcome:
    return Outcome(reason, 7, 4, 3, 1.0, 0.5, timings, None)


async def exchange(tracing: Tracing, headers: dict[str, str], reason: str = "stop") -> None:
    """One request whose handler runs one generation."""
    timings = Timings(queue=0.1, load=0.2, prefill=0.2, decode=0.4, preemptions=0, evicted_by=None)

    @get("/v1/things/{name:str}")
    async def handler(name: FromPath[str]) -> str:
        with tracing.step("reserve"):
            pass
        tracing.generation({"loraplex.adapter": "fox"}).end(outcome(reason, timings))
        if name == "broken":
            raise RuntimeError("a secret prompt")
        return name

    app = Litestar([handler], middleware=[TraceRequests(tracing)])
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)  # type: ignore[arg-type]  # Litestar's ASGI types
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        await client.get(f"/v1/things/{'broken' if reason == 'error' else 'fox'}", headers=headers)


async def test_one_trace_from_the_caller_to_the_engine(receiver: Receiver) -> None:
    tracing = Tracing.from_environment()
    await exchange(tracing, {"traceparent": CALLER})
    tracing.close()
    spans = receiver.by_name()
    assert set(spans) == {
        "GET /v1/things/{name}",
        "reserve",
        "generate",
        "engine.queue",
        "engine.load",
        "engine.prefill",
        "engine.decode",
    }
    request, generate = spans["GET /v1/things/{name}"], spans["generate"]
    assert {span.trace_id.hex() for span in receiver.spans} == {CALLER.split("-")[1]}
    assert request.parent_span_id.hex() == CALLER.split("-")[2]
    assert spans["reserve"].parent_span_id == generate.parent_span_id == request.span_id
    parts = [spans[f"engine.{name}"] for name in ("queue", "load", "prefill", "decode")]
    assert {part.parent_span_id for part in parts} == {generate.span_id}
    seconds = [
        round((part.end_time_unix_nano - part.start_time_unix_nano) / 1e9, 3) for part in parts
    ]
    assert seconds == [0.1, 0.2, 0.2, 0.4]
    assert parts[-1].end_time_unix_nano <= generate.end_time_unix_nano
    numbers = {a.key: a.value.int_value for a in generate.attributes}
    assert numbers["gen_ai.usage.input_tokens"] == 7
    assert numbers["gen_ai.usage.output_tokens"] == 3
    assert receiver.resource["service.name"] == "loraplex"


async def test_nothing_users_wrote_is_in_a_trace(receiver: Receiver) -> None:
    tracing = Tracing.from_environment()
    await exchange(tracing, {}, "error")
    tracing.close()
    assert receiver.by_name()["generate"].status.code == 2
    assert receiver.by_name()["GET /v1/things/{name}"].status.code == 2
    told = b"".join(span.SerializeToString() for span in receiver.spans)
    assert b"secret" not in told
    assert b"broken" not in told


@sqlite_only
async def test_a_completion_is_traced_through_the_whole_service(
    receiver: Receiver, settings: Settings
) -> None:
    async with served(settings) as service:
        key = await service.tenant("acme")
        answer = await service.complete(key, n=2, max_tokens=3)
        assert answer.status_code == 200, answer.text
    spans = {span.span_id: span for span in receiver.spans}  # sent at the end of the service
    of_completion = [s for s in spans.values() if s.name == "POST /v1/completions"]
    (request,) = of_completion
    below = [s.name for s in spans.values() if s.parent_span_id == request.span_id]
    assert sorted(below) == ["generate", "generate", "reserve", "resolve"]
    parts = {
        s.name for s in spans.values() if spans.get(s.parent_span_id, request).name == "generate"
    }
    assert parts <= {"engine.queue", "engine.load", "engine.prefill", "engine.decode"}


async def test_without_a_receiver_nothing_is_made() -> None:
    tracing = Tracing.from_environment()
    assert not tracing.enabled
    await exchange(tracing, {"traceparent": CALLER})
    tracing.close()
