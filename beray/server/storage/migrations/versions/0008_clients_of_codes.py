"""Key verification codes by the client that requested them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.rename_table("verification_codes", "codes_without_clients")
    op.create_table(
        "verification_codes",
        sa.Column("email", sa.String, primary_key=True),
        sa.Column("client", sa.String, primary_key=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("sent_at", sa.String, nullable=False),
        sa.Column("expires_at", sa.String, nullable=False),
        sa.Column("wrong_tries", sa.Integer, nullable=False),
    )
    op.create_index("ix_verification_codes_expires_at", "verification_codes", ["expires_at"])
    op.execute(
        "INSERT INTO verification_codes "
        "SELECT email, '', digest, sent_at, expires_at, wrong_tries FROM codes_without_clients"
    )
    op.drop_table("codes_without_clients")


def downgrade() -> None:
    op.drop_table("verification_codes")
    op.create_table(
        "verification_codes",
        sa.Column("email", sa.String, primary_key=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("sent_at", sa.String, nullable=False),
        sa.Column("expires_at", sa.String, nullable=False),
        sa.Column("wrong_tries", sa.Integer, nullable=False),
    )
