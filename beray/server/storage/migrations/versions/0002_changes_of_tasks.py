"""Add the ends of task logs, and the changes of a user's tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("last_seq", sa.Integer, nullable=False, server_default="0"))
    op.add_column("tasks", sa.Column("last_line", sa.String))
    op.execute(
        "UPDATE tasks SET last_seq = "
        "(SELECT coalesce(max(seq), 0) FROM events WHERE events.task_id = tasks.id)"
    )
    op.create_table(
        "task_changes",
        sa.Column(
            "user_id",
            sa.Integer,
            sa.ForeignKey("users.id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("task_id", sa.Integer, nullable=False),
        sa.Column("status", sa.String),
        sa.Column("reason", sa.String),
        sa.Column("created_at", sa.String, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("task_changes")
    op.drop_column("tasks", "last_line")
    op.drop_column("tasks", "last_seq")
