"""Column with the type of each event."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Existing events keep NULL: the type is needed only while an answer is in progress.
    op.add_column("events", sa.Column("type", sa.String, nullable=True))


def downgrade() -> None:
    op.drop_column("events", "type")
