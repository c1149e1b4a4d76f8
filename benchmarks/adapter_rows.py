"""Owns thousands of adapters as rows of a running server's SQLite files, written in seconds without their bytes: every
adapter is a row of its own everywhere, only equal pieces of weights are stored once.

In the file of weights the table of chunks becomes a view of places and data, which the product reads and writes through
its own SQL like the table that it was.
"""

from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from adapter_kinds import AdapterKind, Member
from sqlalchemy import Connection, Engine, create_engine, event, insert
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry
from uuid_utils.compat import uuid7

from loraplex.platform.db.models import Adapter, AdapterVersion, Blob, BlobState

_BY = "benchmark"
# Two tables in place of `blob_chunk`, and triggers so that uploads and deletions go on as before.
_VIEW = (
    "DROP TABLE blob_chunk",
    "CREATE TABLE chunk_data (id INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE chunk_place (blob_id CHAR(32) NOT NULL, seq INTEGER NOT NULL, data_id INTEGER NOT NULL, "
    "PRIMARY KEY (blob_id, seq)) WITHOUT ROWID",
    # CROSS JOIN: places first, in their order.
    "CREATE VIEW blob_chunk AS SELECT place.blob_id, place.seq, chunk_data.data "
    "FROM chunk_place AS place CROSS JOIN chunk_data ON chunk_data.id = place.data_id",
    "CREATE TRIGGER blob_chunk_insert INSTEAD OF INSERT ON blob_chunk BEGIN "
    "INSERT INTO chunk_data (data) VALUES (NEW.data); "
    "INSERT INTO chunk_place VALUES (NEW.blob_id, NEW.seq, last_insert_rowid()); END",
    "CREATE TRIGGER blob_chunk_delete INSTEAD OF DELETE ON blob_chunk BEGIN "
    "DELETE FROM chunk_place WHERE blob_id = OLD.blob_id AND seq = OLD.seq; END",
)


class AdapterRows:
    """Writes adapters into the database of a server that keeps its data in `folder` and has no weights yet."""

    def __init__(self, folder: Path, tenant_id: UUID, base: str, fingerprint: str) -> None:
        self._tenant_id, self._base, self._fingerprint = tenant_id, base, fingerprint
        self._main = _sqlite(folder / "loraplex.db")
        self._weights = _sqlite(folder / "weights.db")
        self._common: dict[AdapterKind, list[int]] = {}
        with self._weights.begin() as connection:
            for statement in _VIEW:
                connection.exec_driver_sql(statement)

    def add(self, names: Sequence[str], kinds: Sequence[AdapterKind], first: int = 0) -> None:
        """Write one adapter per name with one version each; adapter i is of kind i modulo their number, and member
        `first` + i of it."""
        adapters, blobs, versions = [], [], []
        reports = {kind: kind.report.as_dict() for kind in kinds}
        members = [kinds[at % len(kinds)].member(first + at) for at in range(len(names))]
        for at, (name, member) in enumerate(zip(names, members, strict=True)):
            kind = kinds[at % len(kinds)]
            adapter_id, blob_id = uuid7(), uuid7()
            owner = {"tenant_id": self._tenant_id}
            adapters.append({"id": adapter_id, **owner, "name": name, "last_version": 1})
            ready = {"state": BlobState.READY, "size": kind.size, "sha256": member.weights_sha256}
            blobs.append({"id": blob_id, **owner, **ready})
            version = self._version(kind, member, adapter_id, blob_id)
            report = {**reports[kind], "weights_sha256": member.weights_sha256}
            versions.append({**version, **owner, "report": report})
        with self._weights.begin() as connection:
            ids = [blob["id"].hex for blob in blobs]
            self._write_places(connection, ids, members, kinds)
        with self._main.begin() as connection:
            connection.execute(insert(Blob), blobs)
            connection.execute(insert(Adapter), adapters)
            connection.execute(insert(AdapterVersion), versions)

    def close(self) -> None:
        self._main.dispose()
        self._weights.dispose()

    def _version(
        self, kind: AdapterKind, member: Member, adapter_id: UUID, blob_id: UUID
    ) -> dict[str, object]:
        return {
            "id": uuid7(),
            "adapter_id": adapter_id,
            "n": 1,
            "digest": member.digest,
            "blob_id": blob_id,
            "base_model": self._base,
            "base_fingerprint": self._fingerprint,
            "config": kind.report.canonical_config,
            "rank": kind.rank,
            "created_by": _BY,
        }

    def _write_places(
        self,
        connection: Connection,
        ids: Sequence[str],
        members: Sequence[Member],
        kinds: Sequence[AdapterKind],
    ) -> None:
        for kind in kinds:
            if kind not in self._common:
                self._common[kind] = [self._store(connection, piece) for piece in kind.pieces()]
        places = []
        for at, (blob_id, member) in enumerate(zip(ids, members, strict=True)):
            own = [*self._common[kinds[at % len(kinds)]], self._store(connection, member.tail)]
            places += [(blob_id, seq, data_id) for seq, data_id in enumerate(own)]
        connection.exec_driver_sql("INSERT INTO chunk_place VALUES (?, ?, ?)", places)

    def _store(self, connection: Connection, data: bytes) -> int:
        done = connection.exec_driver_sql("INSERT INTO chunk_data (data) VALUES (?)", (data,))
        return int(done.lastrowid)


def _sqlite(file: Path) -> Engine:
    engine = create_engine(f"sqlite:///{file}", connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def configure(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        # The driver's own transactions do not cover changes of the schema.
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine
