"""A child process that does a data fix, or takes its run back, and is killed at a chosen point. See ``child``."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults.child import Points, watch
from tests.scenarios.app_sql import ERASED, FACES, IN_SQL, RETRAINED, WRITES

from qmigrate import op
from qmigrate.commands import erase, fix, retrain
from qmigrate.commands import rollback as back
from qmigrate.settings.load import Settings


def main() -> int:
    """``child_fix.py CONFIG COLLECTION sync|set|unset|delete|retrain|erase|abort KILL_AT LOG``."""
    config, name, verb, kill_at, log = sys.argv[1:6]
    watch(Points(int(kill_at) if kill_at != "-" else None, Path(log) if log != "-" else None))
    settings = Settings.load(config=Path(config))
    if verb == "abort":
        back.abort(settings, name)
    elif verb == "erase":
        erase.erase(settings, op.DeletePoints(name, ids=ERASED, reason="asked"), expect=len(ERASED))
    elif verb == "retrain":
        retrain.retrain(settings, RETRAINED)
    elif verb == "delete":
        fix.fix(settings, op.DeletePoints(name, sql=IN_SQL, max_share=1.0, reason="test"))
    elif verb in WRITES:
        fix.fix(settings, WRITES[verb](name))
    else:
        fix.fix(settings, op.SyncPayload(name, FACES, fields={"person": "person", "score": "score"}, max_share=1.0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
