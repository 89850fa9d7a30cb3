"""Checkpoints of work_dirs, blobs, pending restores, and origins of tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("origin", sa.JSON))
    counts = ("files", "bytes", "added", "modified", "deleted", "not_stored")
    op.create_table(
        "checkpoints",
        sa.Column("task_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        *(sa.Column(name, sa.Integer, nullable=False) for name in counts),
        sa.Column("lines_added", sa.Integer),
        sa.Column("lines_deleted", sa.Integer),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_checkpoints_user_id", "checkpoints", ["user_id", "task_id"])
    op.create_table(
        "blob_packs",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("key", sa.String, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("stored", sa.Boolean, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_blob_packs_user_id", "blob_packs", ["user_id"])
    op.create_table(
        "blobs",
        sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("pack_id", sa.Integer, nullable=False),
        sa.Column("start", sa.Integer, nullable=False),
        sa.Column("length", sa.Integer, nullable=False),
        sa.Column("compressed", sa.Boolean, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_blobs_pack_id", "blobs", ["pack_id"])
    op.create_table(
        "pending_restores",
        sa.Column("task_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("user_id", sa.Integer, nullable=False),
        sa.Column("root", sa.LargeBinary, nullable=False),
        sa.Column("paths", sa.JSON),
        sa.Column("reason", sa.String, nullable=False),
    )


def downgrade() -> None:
    for table in ("pending_restores", "blobs", "blob_packs", "checkpoints"):
        op.drop_table(table)
    op.drop_column("tasks", "origin")
