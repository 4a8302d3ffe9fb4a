"""${message}"""
${imports}

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
requires_sql = None


def upgrade():
    return ${operations}
