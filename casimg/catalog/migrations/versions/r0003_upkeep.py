"""What repack, repair, leases and records need: live sizes, damage, process starts, revisions."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("packs", sa.Column("live_plain_size", sa.BigInteger(), nullable=True))
    op.add_column("packs", sa.Column("loss_no", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("packs", sa.Column("damaged_at", sa.BigInteger(), nullable=True))
    op.add_column("contents", sa.Column("settled_at", sa.BigInteger(), nullable=True))
    op.add_column("images", sa.Column("revision", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("leases", sa.Column("pid_start", sa.BigInteger(), server_default="0", nullable=False))


def downgrade() -> None:
    op.drop_column("leases", "pid_start")
    op.drop_column("images", "revision")
    op.drop_column("contents", "settled_at")
    op.drop_column("packs", "damaged_at")
    op.drop_column("packs", "loss_no")
    op.drop_column("packs", "live_plain_size")
