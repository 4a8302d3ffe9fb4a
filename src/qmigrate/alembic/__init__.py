"""The bridge to Alembic: what env.py and Alembic's revisions call. It plans nothing and talks to no store itself.

In env.py, around what is there already::

    import qmigrate.alembic as qma

    with engine.connect() as connection:
        qm = qma.integrate(context, connection)
        context.configure(connection=connection, target_metadata=metadata,
                          transaction_per_migration=True, **qm.options())
        with qm.session(), context.begin_transaction():
            context.run_migrations()

In a revision of Alembic::

    from qmigrate.alembic import qdrant

    def upgrade():
        qdrant.require("0003")
"""

from __future__ import annotations

from qmigrate.alembic import qdrant
from qmigrate.alembic.integration import Integration, integrate
from qmigrate.alembic.mode import BridgeError

__all__ = ["BridgeError", "Integration", "integrate", "qdrant"]
