"""The OpenAI API's files, uploads and batches; ledger rows say which batch they belong to."""

import sqlalchemy as sa
from alembic import op

from loraplex.platform.db import row_security

revision = "0004_files"
down_revision = "0003_platform"
branch_labels = None
depends_on = None

OF_TENANTS = ("file", "file_upload", "file_part", "batch", "batch_result")


def upgrade() -> None:
    op.create_table(
        "file",
        *_row(),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("created_by", sa.String(12), nullable=False),
        *_keys("file"),
    )
    op.create_index("ix_file_tenant_id_id", "file", ["tenant_id", "id"])
    op.create_index("ix_file_expires_at", "file", ["expires_at"])
    op.create_table(
        "file_upload",
        *_row(),
        sa.Column("filename", sa.String(255), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("mime_type", sa.String(255), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("lifetime", sa.Integer()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(12), nullable=False),
        sa.Column("file_id", sa.Uuid()),
        *_keys("file_upload"),
        _refers("file_upload", "file_id", "file", "SET NULL"),
    )
    op.create_index("ix_file_upload_tenant_id_state", "file_upload", ["tenant_id", "state"])
    op.create_index("ix_file_upload_file_id", "file_upload", ["file_id"])
    op.create_table(
        "file_part",
        *_row(),
        sa.Column("blob_id", sa.Uuid(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("upload_id", sa.Uuid()),
        sa.Column("file_id", sa.Uuid()),
        sa.Column("position", sa.Integer(), nullable=False),
        *_keys("file_part"),
        _refers("file_part", "blob_id", "blob"),
        _refers("file_part", "upload_id", "file_upload"),
        _refers("file_part", "file_id", "file"),
    )
    for columns in (["tenant_id"], ["blob_id"], ["upload_id"], ["file_id", "position"]):
        op.create_index(f"ix_file_part_{'_'.join(columns)}", "file_part", columns)
    _create_batches()
    op.add_column("ledger", sa.Column("batch_id", sa.Uuid()))
    connection = op.get_bind()
    if connection.dialect.name == "postgresql" and row_security.make_role(connection):
        for table in OF_TENANTS:
            row_security.protect(connection, table)


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        row_security.expose(connection, OF_TENANTS)
    # Nobody knows these any more; their chunks go with the next collection.
    op.execute("DELETE FROM blob WHERE id IN (SELECT blob_id FROM file_part)")
    op.execute("DELETE FROM job WHERE kind = 'batch'")
    op.drop_column("ledger", "batch_id")
    for table in ("batch_result", "batch", "file_part", "file_upload", "file"):
        op.drop_table(table)


def _create_batches() -> None:
    moments = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling")
    op.create_table(
        "batch",
        *_row(),
        sa.Column("key_id", sa.String(12), nullable=False),
        sa.Column("input_file_id", sa.Uuid(), nullable=False),
        sa.Column("endpoint", sa.String(64), nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("details", sa.JSON()),
        sa.Column("lifetime", sa.Integer()),
        sa.Column("model", sa.String(512)),
        sa.Column("errors", sa.JSON()),
        *(
            sa.Column(name, sa.Integer(), nullable=False)
            for name in ("total", "completed", "failed")
        ),
        *(
            sa.Column(f"{name}_tokens", sa.BigInteger(), nullable=False)
            for name in ("input", "cached", "output")
        ),
        sa.Column("output_file_id", sa.Uuid()),
        sa.Column("error_file_id", sa.Uuid()),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        *(sa.Column(f"{name}_at", sa.DateTime(timezone=True)) for name in (*moments, "cancelled")),
        *_keys("batch"),
    )
    op.create_index("ix_batch_tenant_id_id", "batch", ["tenant_id", "id"])
    op.create_table(
        "batch_result",
        sa.Column("batch_id", sa.Uuid(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("ok", sa.Boolean(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "line", name="pk_batch_result"),
        _refers("batch_result", "tenant_id", "tenant"),
        _refers("batch_result", "batch_id", "batch"),
    )
    op.create_index("ix_batch_result_tenant_id", "batch_result", ["tenant_id"])


def _row() -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
    ]


def _keys(table: str) -> list[sa.Constraint]:
    return [
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
        _refers(table, "tenant_id", "tenant"),
    ]


def _refers(table: str, column: str, to: str, ondelete: str = "CASCADE") -> sa.Constraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{to}.id"], name=f"fk_{table}_{column}_{to}", ondelete=ondelete
    )
