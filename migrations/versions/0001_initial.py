"""The first schema: tenants, keys, blobs, uploads, adapters, versions, aliases, audit."""

import sqlalchemy as sa
from alembic import op

revision = "0001_initial"
down_revision = None
branch_labels = ("core",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "tenant",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_tenant"),
        sa.UniqueConstraint("name", name="uq_tenant_name"),
    )
    op.create_table(
        "api_key",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("tenant_id", sa.Uuid()),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("last4", sa.String(4), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_by", sa.String(12)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_api_key"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name="fk_api_key_tenant_id_tenant", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_api_key_tenant_id", "api_key", ["tenant_id"])
    op.create_table(
        "blob",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_blob"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name="fk_blob_tenant_id_tenant", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_blob_sha256", "blob", ["sha256"])
    op.create_index(
        "uq_blob_ready",
        "blob",
        ["tenant_id", "sha256"],
        unique=True,
        sqlite_where=sa.text("state = 'ready'"),
        postgresql_where=sa.text("state = 'ready'"),
    )
    op.create_table(
        "upload",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("blob_id", sa.Uuid(), nullable=False),
        sa.Column("adapter_name", sa.String(63), nullable=False),
        sa.Column("base_model", sa.String(255), nullable=False),
        sa.Column("alias", sa.String(63)),
        sa.Column("config", sa.LargeBinary(), nullable=False),
        sa.Column("chat_template", sa.Text()),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_upload"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name="fk_upload_tenant_id_tenant", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["blob_id"], ["blob.id"], name="fk_upload_blob_id_blob", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_upload_tenant_id", "upload", ["tenant_id"])
    op.create_index("ix_upload_blob_id", "upload", ["blob_id"])
    op.create_table(
        "adapter",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("last_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_adapter"),
        sa.UniqueConstraint("tenant_id", "name", name="uq_adapter_tenant_id_name"),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name="fk_adapter_tenant_id_tenant", ondelete="CASCADE"
        ),
    )
    op.create_table(
        "adapter_version",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("adapter_id", sa.Uuid(), nullable=False),
        sa.Column("n", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("blob_id", sa.Uuid(), nullable=False),
        sa.Column("base_model", sa.String(255), nullable=False),
        sa.Column("base_fingerprint", sa.String(64), nullable=False),
        sa.Column("config", sa.LargeBinary(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("rank", sa.Integer(), nullable=False),
        sa.Column("chat_template", sa.Text()),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_by", sa.String(12), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_adapter_version"),
        sa.UniqueConstraint("adapter_id", "n", name="uq_adapter_version_adapter_id_n"),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["adapter.id"],
            name="fk_adapter_version_adapter_id_adapter",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(["blob_id"], ["blob.id"], name="fk_adapter_version_blob_id_blob"),
    )
    op.create_index("ix_adapter_version_blob_id", "adapter_version", ["blob_id"])
    op.create_table(
        "adapter_alias",
        sa.Column("adapter_id", sa.Uuid(), nullable=False),
        sa.Column("alias", sa.String(63), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("previous_id", sa.Uuid()),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_by", sa.String(12), nullable=False),
        sa.PrimaryKeyConstraint("adapter_id", "alias", name="pk_adapter_alias"),
        sa.ForeignKeyConstraint(
            ["adapter_id"],
            ["adapter.id"],
            name="fk_adapter_alias_adapter_id_adapter",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["adapter_version.id"],
            name="fk_adapter_alias_version_id_adapter_version",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["previous_id"],
            ["adapter_version.id"],
            name="fk_adapter_alias_previous_id_adapter_version",
            ondelete="SET NULL",
        ),
    )
    op.create_index("ix_adapter_alias_version_id", "adapter_alias", ["version_id"])
    op.create_index("ix_adapter_alias_previous_id", "adapter_alias", ["previous_id"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid()),
        sa.Column("actor", sa.String(12), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(255), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_tenant_id_id", "audit", ["tenant_id", "id"])


def downgrade() -> None:
    for table in (
        "audit",
        "adapter_alias",
        "adapter_version",
        "adapter",
        "upload",
        "blob",
        "api_key",
        "tenant",
    ):
        op.drop_table(table)
