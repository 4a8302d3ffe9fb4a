"""${message}"""
${imports}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
requires_sql = None  # or an Alembic revision that must be applied first


def upgrade():
    return ${operations}
