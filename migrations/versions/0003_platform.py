"""The platform: people, limits and prices, the ledger as reservations, webhooks and jobs, and tenants kept apart by
PostgreSQL itself."""

import sqlalchemy as sa
from alembic import op

from loraplex.platform.db import row_security

revision = "0003_platform"
down_revision = "0002_residency"
branch_labels = None
depends_on = None

NOBODY = "00000000000000000000000000000000"
OF_TENANTS = (
    "adapter",
    "adapter_alias",
    "adapter_version",
    "api_key",
    "audit",
    "blob",
    "golden_prompt",
    "job",
    "ledger",
    "membership",
    "meter",
    "one_time_code",
    "upload",
    "usage_limit",
    "usage_rollup",
    "webhook",
    "webhook_delivery",
)


def upgrade() -> None:
    # Plain ALTER TABLE on SQLite too, see 0002; it adds no column that refers to another table and may not be NULL.
    for table in ("adapter_version", "adapter_alias"):
        op.add_column(
            table, sa.Column("tenant_id", sa.Uuid(), nullable=False, server_default=NOBODY)
        )
        op.execute(
            f"UPDATE {table} SET tenant_id ="
            f" (SELECT adapter.tenant_id FROM adapter WHERE adapter.id = {table}.adapter_id)"
        )
        op.create_index(f"ix_{table}_tenant_id", table, ["tenant_id"])
        if op.get_bind().dialect.name == "postgresql":
            op.alter_column(table, "tenant_id", server_default=None)
    op.create_table(
        "api_worker",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("host", sa.String(255), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("birth", sa.BigInteger(), nullable=False),
        sa.Column("service", sa.String(64), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("heartbeat_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_api_worker"),
    )
    op.create_table(
        "sign_in_throttle",
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("blocked_until", sa.DateTime(timezone=True)),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", name="pk_sign_in_throttle"),
    )
    op.create_table(
        "usage_rollup",
        sa.Column("unit", sa.String(1), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("key_id", sa.String(12), nullable=False),
        sa.Column("base_model", sa.String(255), nullable=False),
        sa.Column("adapter", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nanos", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "unit",
            "tenant_id",
            "start",
            "key_id",
            "base_model",
            "adapter",
            "version",
            name="pk_usage_rollup",
        ),
    )
    op.create_index("ix_usage_rollup_unit_start", "usage_rollup", ["unit", "start"])
    op.create_table(
        "user_account",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("email", sa.String(254), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("password_hash", sa.String(255)),
        sa.Column("oidc_subject", sa.String(512)),
        sa.Column("is_operator", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.Column("last_sign_in_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name="pk_user_account"),
        sa.UniqueConstraint("email", name="uq_user_account_email"),
        sa.UniqueConstraint("oidc_subject", name="uq_user_account_oidc_subject"),
    )
    op.create_table(
        "job",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("request", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON()),
        sa.Column("error", sa.Text()),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True)),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.Column("created_by", sa.String(12), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name="fk_job_tenant_id_tenant", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
    )
    op.create_index("ix_job_state_locked_until", "job", ["state", "locked_until"])
    op.create_index("ix_job_tenant_id_id", "job", ["tenant_id", "id"])
    op.create_table(
        "membership",
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("user_id", sa.String(12), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name="fk_membership_tenant_id_tenant", ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name="fk_membership_user_id_user_account", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant_id", "user_id", name="pk_membership"),
    )
    op.create_index("ix_membership_user_id", "membership", ["user_id"])
    op.create_table(
        "meter",
        sa.Column("subject", sa.String(8), nullable=False),
        sa.Column("subject_id", sa.String(36), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("window", sa.JSON(), nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("month_tokens", sa.BigInteger(), nullable=False),
        sa.Column("month_cost_nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name="fk_meter_tenant_id_tenant", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("subject", "subject_id", name="pk_meter"),
    )
    op.create_index("ix_meter_tenant_id", "meter", ["tenant_id"])
    op.create_table(
        "one_time_code",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("purpose", sa.String(16), nullable=False),
        sa.Column("tenant_id", sa.Uuid()),
        sa.Column("user_id", sa.String(12)),
        sa.Column("email", sa.String(254)),
        sa.Column("role", sa.String(16)),
        sa.Column("created_by", sa.String(12)),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("used_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenant.id"],
            name="fk_one_time_code_tenant_id_tenant",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name="fk_one_time_code_user_id_user_account", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_one_time_code"),
        sa.UniqueConstraint("sha256", name="uq_one_time_code_sha256"),
    )
    op.create_index("ix_one_time_code_tenant_id", "one_time_code", ["tenant_id"])
    op.create_index("ix_one_time_code_user_id", "one_time_code", ["user_id"])
    op.create_table(
        "usage_limit",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("subject", sa.String(8), nullable=False),
        sa.Column("subject_id", sa.String(36), nullable=False),
        sa.Column("requests_per_minute", sa.Integer()),
        sa.Column("tokens_per_minute", sa.BigInteger()),
        sa.Column("max_concurrent", sa.Integer()),
        sa.Column("tokens_per_month", sa.BigInteger()),
        sa.Column("cost_per_month_nanos", sa.BigInteger()),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name="fk_usage_limit_tenant_id_tenant", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_usage_limit"),
        sa.UniqueConstraint("subject", "subject_id", name="uq_usage_limit_subject_subject_id"),
    )
    op.create_index("ix_usage_limit_tenant_id", "usage_limit", ["tenant_id"])
    op.create_table(
        "user_session",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("user_id", sa.String(12), nullable=False),
        sa.Column("token_sha256", sa.String(64), nullable=False),
        sa.Column("previous_sha256", sa.String(64)),
        sa.Column("csrf_token", sa.String(64), nullable=False),
        sa.Column("rotated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_seen_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("user_agent", sa.String(255), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["user_account.id"], name="fk_user_session_user_id_user_account", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_user_session"),
        sa.UniqueConstraint("token_sha256", name="uq_user_session_token_sha256"),
    )
    op.create_index("ix_user_session_previous_sha256", "user_session", ["previous_sha256"])
    op.create_index("ix_user_session_user_id", "user_session", ["user_id"])
    op.create_table(
        "webhook",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("url", sa.String(2048), nullable=False),
        sa.Column("secret", sa.String(64), nullable=False),
        sa.Column("previous_secret", sa.String(64)),
        sa.Column("previous_until", sa.DateTime(timezone=True)),
        sa.Column("events", sa.JSON(), nullable=False),
        sa.Column("description", sa.String(200), nullable=False),
        sa.Column("disabled_at", sa.DateTime(timezone=True)),
        sa.Column("created_by", sa.String(12), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenant.id"], name="fk_webhook_tenant_id_tenant", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook"),
    )
    op.create_index("ix_webhook_tenant_id", "webhook", ["tenant_id"])
    op.create_table(
        "price",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("base_model", sa.String(255), nullable=False),
        sa.Column("adapter_id", sa.Uuid()),
        sa.Column("input_nanos", sa.BigInteger(), nullable=False),
        sa.Column("cached_nanos", sa.BigInteger(), nullable=False),
        sa.Column("output_nanos", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["adapter_id"], ["adapter.id"], name="fk_price_adapter_id_adapter", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_price"),
        sa.UniqueConstraint("base_model", "adapter_id", name="uq_price_base_model_adapter_id"),
    )
    op.create_index("ix_price_adapter_id", "price", ["adapter_id"])
    op.create_index(
        "uq_price_of_base",
        "price",
        ["base_model"],
        unique=True,
        sqlite_where=sa.text("adapter_id IS NULL"),
        postgresql_where=sa.text("adapter_id IS NULL"),
    )
    op.create_table(
        "webhook_delivery",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("webhook_id", sa.Uuid(), nullable=False),
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("locked_until", sa.DateTime(timezone=True)),
        sa.Column("last_status", sa.Integer()),
        sa.Column("last_error", sa.Text()),
        sa.Column("ended_at", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenant.id"],
            name="fk_webhook_delivery_tenant_id_tenant",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["webhook_id"],
            ["webhook.id"],
            name="fk_webhook_delivery_webhook_id_webhook",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_delivery"),
    )
    op.create_index("ix_webhook_delivery_state_next_at", "webhook_delivery", ["state", "next_at"])
    op.create_index("ix_webhook_delivery_tenant_id", "webhook_delivery", ["tenant_id"])
    op.create_index("ix_webhook_delivery_webhook_id_id", "webhook_delivery", ["webhook_id", "id"])
    op.create_table(
        "golden_prompt",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("version_id", sa.Uuid(), nullable=False),
        sa.Column("prompt", sa.JSON(), nullable=False),
        sa.Column("max_tokens", sa.Integer(), nullable=False),
        sa.Column("expected", sa.Text()),
        sa.Column("result", sa.String(16)),
        sa.Column("answer", sa.Text()),
        sa.Column("checked_at", sa.DateTime(timezone=True)),
        sa.Column("epoch", sa.String(16)),
        sa.Column("locked_until", sa.DateTime(timezone=True)),
        sa.ForeignKeyConstraint(
            ["version_id"],
            ["adapter_version.id"],
            name="fk_golden_prompt_version_id_adapter_version",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_golden_prompt"),
    )
    op.create_index("ix_golden_prompt_tenant_id", "golden_prompt", ["tenant_id"])
    op.create_index("ix_golden_prompt_version_id", "golden_prompt", ["version_id"])
    op.add_column("adapter_alias", sa.Column("split", sa.JSON()))
    op.add_column("adapter_alias", sa.Column("previous_split", sa.JSON()))
    op.add_column("adapter_version", sa.Column("parent_n", sa.Integer()))
    op.add_column("adapter_version", sa.Column("source", sa.JSON()))
    op.add_column("adapter_version", sa.Column("defaults", sa.JSON()))
    op.add_column("api_key", sa.Column("adapters", sa.JSON()))
    op.add_column("api_key", sa.Column("expires_at", sa.DateTime(timezone=True)))
    op.add_column("api_key", sa.Column("last_used_at", sa.DateTime(timezone=True)))
    op.add_column("api_key", sa.Column("replaces", sa.String(12)))
    op.add_column(
        "audit", sa.Column("actor_name", sa.String(254), server_default="", nullable=False)
    )
    op.add_column(
        "audit", sa.Column("by_operator", sa.Boolean(), server_default=sa.false(), nullable=False)
    )
    op.add_column("audit", sa.Column("address", sa.String(64), server_default="", nullable=False))
    op.add_column("audit", sa.Column("before", sa.JSON()))
    op.add_column("audit", sa.Column("after", sa.JSON()))
    op.add_column("ledger", sa.Column("endpoint", sa.String(16), server_default="", nullable=False))
    op.add_column(
        "ledger", sa.Column("state", sa.String(8), server_default="settled", nullable=False)
    )
    op.add_column("ledger", sa.Column("worker_id", sa.Uuid()))
    op.add_column("ledger", sa.Column("choices", sa.Integer(), server_default="1", nullable=False))
    op.add_column(
        "ledger", sa.Column("reserved_tokens", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "ledger", sa.Column("reserved_nanos", sa.BigInteger(), server_default="0", nullable=False)
    )
    for price in ("input_nanos", "cached_nanos", "output_nanos"):
        op.add_column(
            "ledger", sa.Column(price, sa.BigInteger(), server_default="0", nullable=False)
        )
    op.add_column(
        "ledger", sa.Column("cost_nanos", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column("ledger", sa.Column("limited", sa.JSON()))
    op.create_index(
        "ix_ledger_reserved",
        "ledger",
        ["worker_id"],
        sqlite_where=sa.text("state = 'reserved'"),
        postgresql_where=sa.text("state = 'reserved'"),
    )
    op.create_index("ix_ledger_tenant_id_key_id_id", "ledger", ["tenant_id", "key_id", "id"])
    op.drop_column("ledger", "choice")
    op.add_column("tenant", sa.Column("storage_limit", sa.BigInteger()))
    op.add_column("tenant", sa.Column("ledger_days", sa.Integer()))
    op.add_column("upload", sa.Column("options", sa.JSON()))

    connection = op.get_bind()
    if connection.dialect.name == "postgresql" and row_security.make_role(connection):
        for table in OF_TENANTS:
            # What happened stays as it was written.
            rights = "SELECT, INSERT" if table == "audit" else row_security.ALL_RIGHTS
            row_security.protect(connection, table, rights=rights)
        row_security.protect(connection, "tenant", row_security.BY_ID)
        row_security.show(connection, "user_account", row_security.BY_MEMBERSHIP)
        row_security.show(connection, "price", row_security.BY_ADAPTER)


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        row_security.expose(connection, (*OF_TENANTS, "tenant", "user_account", "price"))
    op.drop_index("ix_ledger_reserved", table_name="ledger")
    op.drop_index("ix_ledger_tenant_id_key_id_id", table_name="ledger")
    op.add_column("ledger", sa.Column("choice", sa.Integer(), nullable=False, server_default="0"))
    for table in (
        "golden_prompt",
        "webhook_delivery",
        "price",
        "webhook",
        "user_session",
        "usage_limit",
        "one_time_code",
        "meter",
        "membership",
        "job",
        "user_account",
        "usage_rollup",
        "sign_in_throttle",
        "api_worker",
    ):
        op.drop_table(table)
    for table in ("adapter_version", "adapter_alias"):
        op.drop_index(f"ix_{table}_tenant_id", table_name=table)
        op.drop_column(table, "tenant_id")
    for table, column in (
        ("adapter_alias", "split"),
        ("adapter_alias", "previous_split"),
        ("adapter_version", "parent_n"),
        ("adapter_version", "source"),
        ("adapter_version", "defaults"),
        ("api_key", "adapters"),
        ("api_key", "expires_at"),
        ("api_key", "last_used_at"),
        ("api_key", "replaces"),
        ("audit", "actor_name"),
        ("audit", "by_operator"),
        ("audit", "address"),
        ("audit", "before"),
        ("audit", "after"),
        ("ledger", "endpoint"),
        ("ledger", "state"),
        ("ledger", "worker_id"),
        ("ledger", "choices"),
        ("ledger", "reserved_tokens"),
        ("ledger", "reserved_nanos"),
        ("ledger", "input_nanos"),
        ("ledger", "cached_nanos"),
        ("ledger", "output_nanos"),
        ("ledger", "cost_nanos"),
        ("ledger", "limited"),
        ("tenant", "storage_limit"),
        ("tenant", "ledger_days"),
        ("upload", "options"),
    ):
        op.drop_column(table, column)
