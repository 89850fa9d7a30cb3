"""Add the column ``type`` of events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Existing events keep NULL: types are needed only for answers that are being written.
    op.add_column("events", sa.Column("type", sa.String, nullable=True))


def downgrade() -> None:
    op.drop_column("events", "type")
