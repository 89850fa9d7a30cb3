"""Type of the newest event of each chat, if an earlier version stored the event without it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

# CROSS JOIN makes SQLite read chats first and find their events by primary key.
_NEWEST = """
SELECT events.task_id, events.seq, json_extract(events.body, '$.type') AS type
FROM tasks CROSS JOIN events ON events.task_id = tasks.id AND events.seq = tasks.last_seq
WHERE tasks.chat IS NOT NULL AND events.type IS NULL AND json_valid(events.body)
"""


def upgrade() -> None:
    # Other events keep NULL: a start looks for chats that end in a message, and nothing else reads
    # types of older events. A search in the JSON would also find the names of types in results of
    # tools.
    connection = op.get_bind()
    for row in connection.execute(sa.text(_NEWEST)).all():
        connection.execute(
            sa.text("UPDATE events SET type = :type WHERE task_id = :task_id AND seq = :seq"),
            row._asdict(),
        )


def downgrade() -> None:
    """Keep the types, which the earlier revision ignores."""
