"""Add runner, model, limits, tags and usage of tasks, and daily usage."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

ADDED = {
    "runner": sa.String,
    "model": sa.String,
    "limits": sa.JSON,
    "tags": sa.JSON,
    "usage": sa.JSON,
}


def upgrade() -> None:
    for name, kind in ADDED.items():
        op.add_column("tasks", sa.Column(name, kind))
    op.create_table(
        "day_usage",
        sa.Column(
            "user_id",
            sa.Integer,
            sa.ForeignKey("users.id", ondelete="CASCADE"),
            primary_key=True,
            autoincrement=False,
        ),
        sa.Column("day", sa.String, primary_key=True),
        sa.Column("tokens", sa.Integer, nullable=False),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("cost_usd", sa.Double, nullable=False),
        sa.Column("seconds", sa.Double, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("day_usage")
    for name in ADDED:
        op.drop_column("tasks", name)
