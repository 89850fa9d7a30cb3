"""Add authors of prefabs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "prefab_authors",
        sa.Column("prefab_id", sa.String, primary_key=True),
        # Not a foreign key: the prefab id stays reserved after the user is deleted.
        sa.Column("user_id", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("prefab_authors")
