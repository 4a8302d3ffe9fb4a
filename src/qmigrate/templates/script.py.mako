"""${message}"""

${imports}

revision = ${literal(up_revision)}
down_revision = ${literal(down_revision)}
requires_sql = None


def upgrade():
    return ${operations}
% if downgrade:


def downgrade():
    return ${downgrade}
% endif
