"""Owns a real HTTP server on loopback that keeps what it is sent and answers as it is told, and certificates for it."""

import asyncio
import ssl
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from loraplex.platform.db.base import utc_now

FINE = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


def status(code: int, *headers: str) -> bytes:
    """An empty answer."""
    lines = (f"HTTP/1.1 {code} Whatever", "content-length: 0", "connection: close", *headers)
    return "\r\n".join((*lines, "", "")).encode()


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    target: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Receiver:
    """What came, and what to answer: the next of `answers`, then `FINE`. None is no answer at all."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    answers: list[bytes | None] = field(default_factory=list)
    written: int = 0  # bytes of the last answer that went out
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.rstrip().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            self.received.append(Received(first.split()[1], headers, body))
            answer = self.answers.pop(0) if self.answers else FINE
            if answer is None:
                await self.ended.wait()
            self.written = 0
            for start in range(0, len(answer or b""), 65536):
                writer.write((answer or b"")[start : start + 65536])
                await writer.drain()
                self.written = start + 65536
        writer.close()
        with suppress(ConnectionError, ssl.SSLError):
            await writer.wait_closed()


@asynccontextmanager
async def receiver(context: ssl.SSLContext | None = None) -> AsyncGenerator[Receiver]:
    """A receiver at 127.0.0.1, with TLS if a context is given."""
    made = Receiver()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        made.ended.set()
        server.close()
        await server.wait_closed()


def tls_contexts(folder: Path, names: Sequence[str]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server that is these names, and a client that believes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
    now = utc_now()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(n) for n in names]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "receiver.pem"
    pem.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server, ssl.create_default_context(cafile=str(pem))
