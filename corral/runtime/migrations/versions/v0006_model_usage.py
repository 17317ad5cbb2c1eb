"""What a model call used of caches and for thoughts, how fast it was, and which model answered"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; of the calls that there are nothing of it is known."""
    for name in ("cached_tokens", "cache_write_tokens", "reasoning_tokens"):
        op.add_column("effects", _count(name, sa.Integer()))
    for name in ("first_token_ms", "generation_ms"):
        op.add_column("effects", sa.Column(name, sa.Float()))
    answered_by = sa.Column("answered_by", sa.Text(), nullable=False, server_default="")
    op.add_column("effects", answered_by)
    for name in ("cached_tokens", "reasoning_tokens"):
        op.add_column("spent_before", _count(name, sa.BigInteger()))


def _count(name: str, kind: sa.Integer) -> sa.Column[int]:
    return sa.Column(name, kind, nullable=False, server_default="0")
