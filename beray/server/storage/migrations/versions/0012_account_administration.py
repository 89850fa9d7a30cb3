"""Roles, sessions, scopes of API keys, purposes of codes, invitations and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("users", sa.Column("role", sa.String, nullable=False, server_default="user"))
    op.add_column("users", sa.Column("disabled_at", sa.String))
    op.add_column("users", sa.Column("deleted_at", sa.String))
    op.add_column(
        "users", sa.Column("must_change_password", sa.Boolean, nullable=False, server_default="0")
    )
    op.add_column("users", sa.Column("last_sign_in_at", sa.String))
    for name in ("id", "ends_at", "last_used_at", "device", "address"):
        op.add_column("tokens", sa.Column(name, sa.String))
    op.execute("UPDATE tokens SET id = lower(hex(randomblob(8)))")
    op.create_index("ix_tokens_id", "tokens", ["id"], unique=True)
    for column in (
        sa.Column("scopes", sa.JSON),
        sa.Column("expires_at", sa.String),
        sa.Column("last_used_at", sa.String),
    ):
        op.add_column("api_keys", column)
    op.rename_table("verification_codes", "codes_without_purpose")
    op.drop_index("ix_verification_codes_expires_at", "codes_without_purpose")
    op.create_table(
        "verification_codes",
        sa.Column("purpose", sa.String, primary_key=True),
        sa.Column("email", sa.String, primary_key=True),
        sa.Column("client", sa.String, primary_key=True),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("sent_at", sa.String, nullable=False),
        sa.Column("expires_at", sa.String, nullable=False),
        sa.Column("wrong_tries", sa.Integer, nullable=False),
    )
    op.create_index("ix_verification_codes_expires_at", "verification_codes", ["expires_at"])
    op.execute(
        "INSERT INTO verification_codes SELECT 'registration', email, client, digest, sent_at, "
        "expires_at, wrong_tries FROM codes_without_purpose"
    )
    op.drop_table("codes_without_purpose")
    op.create_table(
        "invitations",
        sa.Column("email", sa.String, primary_key=True),
        sa.Column("role", sa.String, nullable=False),
        sa.Column("invited_by", sa.String, nullable=False),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("expires_at", sa.String, nullable=False),
    )
    op.create_index("ix_invitations_expires_at", "invitations", ["expires_at"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("created_at", sa.String, nullable=False),
        sa.Column("actor", sa.String, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("action", sa.String, nullable=False),
        sa.Column("object", sa.String, nullable=False),
        sa.Column("request_id", sa.String, nullable=False),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_created_at", "audit", ["created_at"])
    for operation in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER audit_{operation.lower()} BEFORE {operation} ON audit "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
        )


def downgrade() -> None:
    for table in ("audit", "invitations", "verification_codes"):
        op.drop_table(table)
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
    for name in ("scopes", "expires_at", "last_used_at"):
        op.drop_column("api_keys", name)
    op.drop_index("ix_tokens_id", "tokens")
    for name in ("id", "ends_at", "last_used_at", "device", "address"):
        op.drop_column("tokens", name)
    for name in ("role", "disabled_at", "deleted_at", "must_change_password", "last_sign_in_at"):
        op.drop_column("users", name)
