"""Add deleted tasks and the readiness check."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "deleted_tasks",
        sa.Column("task_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("deleted_at", sa.String, nullable=False),
    )
    op.create_table(
        "readiness",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("checked_at", sa.String, nullable=False),
    )


def downgrade() -> None:
    op.drop_table("readiness")
    op.drop_table("deleted_tasks")
