"""${message}"""

${imports}

revision = ${literal(up_revision)}
down_revision = ${literal(down_revision)}
requires_sql = None  # or an Alembic revision that must be applied first


def upgrade():
    return ${operations}
