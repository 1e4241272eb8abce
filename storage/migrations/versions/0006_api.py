"""Tables of the API: idempotency and callbacks of tasks, talks that go on."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only for the exact type INTEGER; PostgreSQL needs 64 bits.
ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """One step up."""
    op.create_table(
        "apitask",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("print", sa.String(), nullable=False),
        sa.Column("job_key", sa.String(), nullable=False),
        sa.Column("url", sa.Text(), server_default="", nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("callback", sa.String(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("error", sa.String(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=True),
        sa.Column("ended_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("job_key"),
        sa.UniqueConstraint("tenant", "caller", "key"),
    )
    op.create_index("ix_apitask_created_at", "apitask", ["created_at"], unique=False)
    op.create_index(
        "ix_apitask_pending",
        "apitask",
        ["next_at"],
        unique=False,
        sqlite_where=sa.text("callback = 'pending'"),
        postgresql_where=sa.text("callback = 'pending'"),
    )
    op.create_table(
        "apitalk",
        sa.Column("id", ID, nullable=False),
        sa.Column("tenant", sa.String(), nullable=False),
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("hash", sa.String(), nullable=False),
        sa.Column("conversation_id", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("tenant", "caller", "hash"),
    )
    op.create_index("ix_apitalk_at", "apitalk", ["at"], unique=False)


def downgrade() -> None:
    """One step down."""
    op.drop_table("apitalk")
    op.drop_table("apitask")
