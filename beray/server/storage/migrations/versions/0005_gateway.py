"""Add API keys, internal tokens, objects and call counts of the gateway."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Integer, primary_key=True),
        _user(),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("agent_id", sa.String),
        sa.Column("digest", sa.String, nullable=False, unique=True),
        sa.Column("start", sa.String, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "internal_tokens",
        sa.Column("digest", sa.String, primary_key=True),
        _user(),
        sa.Column("agent_id", sa.String),
        sa.Column(
            "api_key_id",
            sa.Integer,
            sa.ForeignKey("api_keys.id", ondelete="CASCADE"),
            index=True,
        ),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("expires_at", sa.String, nullable=False, index=True),
    )
    op.create_table(
        "objects",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("file", sa.String, nullable=False, unique=True),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String, nullable=False),
        sa.Column("content_type", sa.String),
        sa.Column("last_modified", sa.String, nullable=False),
    )
    op.create_table(
        "temporary_objects",
        sa.Column("key", sa.String, primary_key=True),
        sa.Column("expires_at", sa.String, nullable=False, index=True),
    )
    op.create_table(
        "gateway_usage",
        sa.Column("subject", sa.String, primary_key=True),
        sa.Column("day", sa.String, primary_key=True),
        sa.Column("calls", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    for table in ("gateway_usage", "temporary_objects", "objects", "internal_tokens", "api_keys"):
        op.drop_table(table)


def _user() -> sa.Column[int]:
    return sa.Column(
        "user_id",
        sa.Integer,
        sa.ForeignKey("users.id", ondelete="CASCADE"),
        nullable=False,
        index=True,
    )
