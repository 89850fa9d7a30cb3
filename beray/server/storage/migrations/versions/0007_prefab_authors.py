"""Who added a prefab first."""

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
        # Without a reference: who has left leaves the id to nobody else.
        sa.Column("user_id", sa.Integer, nullable=False),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("prefab_authors")
