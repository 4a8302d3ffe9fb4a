"""Ada was imported twice: her faces get one person. SQL only; the points follow in the next revision."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    kept = "(SELECT min(id) FROM persons WHERE name = 'Ada')"
    op.execute(
        f"UPDATE faces SET person_id = {kept}, updated_at = CURRENT_TIMESTAMP "
        f"WHERE person_id IN (SELECT id FROM persons WHERE name = 'Ada') AND person_id <> {kept}"
    )
    op.execute(f"DELETE FROM persons WHERE name = 'Ada' AND id <> {kept}")


def downgrade():
    """Which faces were the other Ada's is not known any more."""
