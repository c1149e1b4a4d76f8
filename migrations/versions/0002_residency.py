"""Shares and limits of tenants and adapters, the warm set, and the ledger."""

import sqlalchemy as sa
from alembic import op

revision = "0002_residency"
down_revision = "0001_initial"
branch_labels = None
depends_on = None

def upgrade() -> None:
    # Plain ALTER TABLE on SQLite too: Alembic's copy of a table would drop the old one, and with it, by cascade, every
    # row that belongs to a tenant.
    op.add_column("tenant", sa.Column("weight", sa.Double(), nullable=False, server_default="1"))
    op.add_column("tenant", sa.Column("max_running", sa.Integer()))
    op.add_column(
        "adapter", sa.Column("pinned", sa.Boolean(), nullable=False, server_default=sa.false())
    )
    op.add_column("adapter", sa.Column("max_running", sa.Integer()))
    op.create_table(
        "warm_adapter",
        sa.Column("base_fingerprint", sa.String(64), nullable=False),
        sa.Column("adapter_version_id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("base_fingerprint", "adapter_version_id", name="pk_warm_adapter"),
        sa.ForeignKeyConstraint(
            ["adapter_version_id"],
            ["adapter_version.id"],
            name="fk_warm_adapter_adapter_version_id_adapter_version",
            ondelete="CASCADE",
        ),
    )
    op.create_index("ix_warm_adapter_adapter_version_id", "warm_adapter", ["adapter_version_id"])
    op.create_table(
        "ledger",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("key_id", sa.String(12), nullable=False),
        sa.Column("answer_id", sa.String(64), nullable=False),
        sa.Column("choice", sa.Integer(), nullable=False),
        sa.Column("base_model", sa.String(255), nullable=False),
        sa.Column("adapter", sa.String(63)),
        sa.Column("version", sa.Integer()),
        sa.Column("version_id", sa.Uuid()),
        sa.Column("digest", sa.String(64)),
        sa.Column("finish_reason", sa.String(16), nullable=False),
        sa.Column("prompt_tokens", sa.Integer(), nullable=False),
        sa.Column("cached_tokens", sa.Integer(), nullable=False),
        sa.Column("output_tokens", sa.Integer(), nullable=False),
        sa.Column("total_ms", sa.Double(), nullable=False),
        sa.Column("first_token_ms", sa.Double()),
        sa.Column("queue_ms", sa.Double()),
        sa.Column("load_ms", sa.Double()),
        sa.Column("prefill_ms", sa.Double()),
        sa.Column("decode_ms", sa.Double()),
        sa.Column("preemptions", sa.Integer(), nullable=False),
        sa.Column("evicted_by", sa.String(128)),
        sa.PrimaryKeyConstraint("id", name="pk_ledger"),
    )
    op.create_index("ix_ledger_tenant_id_id", "ledger", ["tenant_id", "id"])
    op.create_index("ix_ledger_tenant_id_adapter_id", "ledger", ["tenant_id", "adapter", "id"])
    op.create_index("ix_ledger_answer_id", "ledger", ["answer_id"])


def downgrade() -> None:
    op.drop_table("ledger")
    op.drop_table("warm_adapter")
    for table, column in (
        ("adapter", "max_running"),
        ("adapter", "pinned"),
        ("tenant", "max_running"),
        ("tenant", "weight"),
    ):
        op.drop_column(table, column)
