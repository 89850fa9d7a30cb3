"""Types of events in a column of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Events that exist keep NULL: their types are needed for answers under way only.
    op.add_column("events", sa.Column("type", sa.String, nullable=True))


def downgrade() -> None:
    op.drop_column("events", "type")
