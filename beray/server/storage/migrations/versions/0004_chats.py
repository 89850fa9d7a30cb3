"""Add chats."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("chat", sa.String))
    op.create_index("ix_tasks_chat", "tasks", ["user_id", "chat"], unique=True)


def downgrade() -> None:
    op.drop_index("ix_tasks_chat", "tasks")
    op.drop_column("tasks", "chat")
