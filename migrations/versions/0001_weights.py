"""The first schema of the weights database: chunk rows."""

import sqlalchemy as sa
from alembic import op

revision = "0001_weights"
down_revision = None
branch_labels = ("weights",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blob_chunk",
        sa.Column("blob_id", sa.Uuid(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("blob_id", "seq", name="pk_blob_chunk"),
    )
    if op.get_bind().dialect.name == "postgresql":
        # Weights do not compress: out of line and as they are saves the attempt on every row.
        op.execute("ALTER TABLE blob_chunk ALTER COLUMN data SET STORAGE EXTERNAL")


def downgrade() -> None:
    op.drop_table("blob_chunk")
