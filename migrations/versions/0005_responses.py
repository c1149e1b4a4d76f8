"""Answers of the Responses API that are kept to build on."""

import sqlalchemy as sa
from alembic import op

from loraplex.platform.db import row_security

revision = "0005_responses"
down_revision = "0004_files"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "stored_response",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("tenant_id", sa.Uuid(), nullable=False),
        sa.Column("response_id", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("input", sa.LargeBinary(), nullable=False),
        sa.Column("response", sa.LargeBinary(), nullable=False),
        sa.Column("chain", sa.JSON(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant_id"],
            ["tenant.id"],
            name="fk_stored_response_tenant_id_tenant",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_stored_response"),
    )
    op.create_index(
        "ix_stored_response_tenant_id_response_id",
        "stored_response",
        ["tenant_id", "response_id"],
        unique=True,
    )
    op.create_index(
        "ix_stored_response_tenant_id_expires_at_size",
        "stored_response",
        ["tenant_id", "expires_at", "size"],
    )
    op.create_index("ix_stored_response_expires_at", "stored_response", ["expires_at"])
    connection = op.get_bind()
    if connection.dialect.name == "postgresql" and row_security.make_role(connection):
        row_security.protect(connection, "stored_response")


def downgrade() -> None:
    connection = op.get_bind()
    if connection.dialect.name == "postgresql":
        row_security.expose(connection, ("stored_response",))
    op.drop_table("stored_response")
