"""One function per verb: everything the command line can do, a Python program can. Nothing here prints or exits.

::

    from qmigrate import commands

    commands.upgrade()                                         # the settings as the command line finds them
    commands.upgrade(commands.Settings.load(config="other.yaml"), "0003", only=["docs"])

A verb of two words is one name: ``snapshot create`` is `snapshot_create`. Each returns a frozen dataclass, which is
what ``--json`` prints, and raises what `qmigrate.errors` has. A verb is loaded when it is first used.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

from qmigrate.settings.load import Settings
from qmigrate.text import did_you_mean

if TYPE_CHECKING:
    from qmigrate.commands.adopt import adopt, stamp
    from qmigrate.commands.autogenerate import autogenerate as revision_autogenerate
    from qmigrate.commands.autogenerate import check_declared
    from qmigrate.commands.check import check
    from qmigrate.commands.cutover import cutover
    from qmigrate.commands.doctor import doctor
    from qmigrate.commands.drift import from_drift as revision_from_drift
    from qmigrate.commands.drift import from_live as revision_from_live
    from qmigrate.commands.drift import restore as repair_schema
    from qmigrate.commands.erase import erase
    from qmigrate.commands.evaluate import evaluate
    from qmigrate.commands.export import show as export_show
    from qmigrate.commands.fix import fix
    from qmigrate.commands.fix import review as fix_review
    from qmigrate.commands.fix import undo as fix_undo
    from qmigrate.commands.gc import gc
    from qmigrate.commands.history import carried as history_carried
    from qmigrate.commands.history import deletions as history_deletions
    from qmigrate.commands.init import init, revision
    from qmigrate.commands.jobs import jobs
    from qmigrate.commands.jobs import work as worker
    from qmigrate.commands.lint import lint as check_offline
    from qmigrate.commands.metrics import metrics
    from qmigrate.commands.plan_file import plan_to, upgrade_planned
    from qmigrate.commands.quarantine import quarantine as fix_quarantine
    from qmigrate.commands.quarantine import retry as fix_retry
    from qmigrate.commands.rehearse import rehearse
    from qmigrate.commands.repair import accept as repair_accept
    from qmigrate.commands.repair import leftovers as repair_leftovers
    from qmigrate.commands.repair import name as repair_name
    from qmigrate.commands.repair import unlock as repair_unlock
    from qmigrate.commands.repair import vanished as repair_vanished
    from qmigrate.commands.requests import approve, reject
    from qmigrate.commands.requests import request as requests_show
    from qmigrate.commands.requests import requests as requests_list
    from qmigrate.commands.requests import run as requests_run
    from qmigrate.commands.reset import reset as fix_reset
    from qmigrate.commands.restore import restore as snapshot_restore
    from qmigrate.commands.retrain import retrain as fix_retrain
    from qmigrate.commands.rollback import abort, rollback
    from qmigrate.commands.schema import schema
    from qmigrate.commands.show import branches, heads, show
    from qmigrate.commands.snapshot import create as snapshot_create
    from qmigrate.commands.snapshot import delete as snapshot_delete
    from qmigrate.commands.snapshot import list_ as snapshot_list
    from qmigrate.commands.squash import squash
    from qmigrate.commands.stats import stats as fix_stats
    from qmigrate.commands.status import history, status
    from qmigrate.commands.try_models import try_models
    from qmigrate.commands.upgrade import plan, upgrade
    from qmigrate.commands.verify import verify
    from qmigrate.commands.wait import wait

__all__ = [
    "Settings",
    "abort",
    "adopt",
    "approve",
    "branches",
    "check",
    "check_declared",
    "check_offline",
    "cutover",
    "doctor",
    "erase",
    "evaluate",
    "export_show",
    "fix",
    "fix_quarantine",
    "fix_reset",
    "fix_retrain",
    "fix_retry",
    "fix_review",
    "fix_stats",
    "fix_undo",
    "gc",
    "heads",
    "history",
    "history_carried",
    "history_deletions",
    "init",
    "jobs",
    "metrics",
    "plan",
    "plan_to",
    "rehearse",
    "reject",
    "repair_accept",
    "repair_leftovers",
    "repair_name",
    "repair_schema",
    "repair_unlock",
    "repair_vanished",
    "requests_list",
    "requests_run",
    "requests_show",
    "revision",
    "revision_autogenerate",
    "revision_from_drift",
    "revision_from_live",
    "rollback",
    "schema",
    "show",
    "snapshot_create",
    "snapshot_delete",
    "snapshot_list",
    "snapshot_restore",
    "squash",
    "stamp",
    "status",
    "try_models",
    "upgrade",
    "upgrade_planned",
    "verify",
    "wait",
    "worker",
]

#: Verb -> the module below this package, and the function in it.
_VERBS = {
    "abort": "rollback:abort",
    "adopt": "adopt:adopt",
    "approve": "requests:approve",
    "branches": "show:branches",
    "check": "check:check",
    "check_declared": "autogenerate:check_declared",
    "check_offline": "lint:lint",
    "cutover": "cutover:cutover",
    "doctor": "doctor:doctor",
    "erase": "erase:erase",
    "evaluate": "evaluate:evaluate",
    "export_show": "export:show",
    "fix": "fix:fix",
    "fix_quarantine": "quarantine:quarantine",
    "fix_reset": "reset:reset",
    "fix_retrain": "retrain:retrain",
    "fix_retry": "quarantine:retry",
    "fix_review": "fix:review",
    "fix_stats": "stats:stats",
    "fix_undo": "fix:undo",
    "gc": "gc:gc",
    "heads": "show:heads",
    "history": "status:history",
    "history_carried": "history:carried",
    "history_deletions": "history:deletions",
    "init": "init:init",
    "jobs": "jobs:jobs",
    "metrics": "metrics:metrics",
    "plan": "upgrade:plan",
    "plan_to": "plan_file:plan_to",
    "rehearse": "rehearse:rehearse",
    "reject": "requests:reject",
    "repair_accept": "repair:accept",
    "repair_leftovers": "repair:leftovers",
    "repair_name": "repair:name",
    "repair_schema": "drift:restore",
    "repair_unlock": "repair:unlock",
    "repair_vanished": "repair:vanished",
    "requests_list": "requests:requests",
    "requests_run": "requests:run",
    "requests_show": "requests:request",
    "revision": "init:revision",
    "revision_autogenerate": "autogenerate:autogenerate",
    "revision_from_drift": "drift:from_drift",
    "revision_from_live": "drift:from_live",
    "rollback": "rollback:rollback",
    "schema": "schema:schema",
    "show": "show:show",
    "snapshot_create": "snapshot:create",
    "snapshot_delete": "snapshot:delete",
    "snapshot_list": "snapshot:list_",
    "snapshot_restore": "restore:restore",
    "squash": "squash:squash",
    "stamp": "adopt:stamp",
    "status": "status:status",
    "try_models": "try_models:try_models",
    "upgrade": "upgrade:upgrade",
    "upgrade_planned": "plan_file:upgrade_planned",
    "verify": "verify:verify",
    "wait": "wait:wait",
    "worker": "jobs:work",
}


class _CallableModule(ModuleType):
    """A module that has the name of its verb: ``commands.upgrade()`` calls the verb, whatever was imported before."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the verb.

        Raises:
            TypeError: the module has none of its name.
        """
        try:
            verb = _function(self.__name__.rpartition(".")[2])
        except AttributeError:
            raise TypeError(f"{self.__name__} is a module, and no verb") from None
        return verb(*args, **kwargs)

    @property
    def __signature__(self) -> inspect.Signature:
        """That of the verb, for ``help`` and editors."""
        try:
            return inspect.signature(_function(self.__name__.rpartition(".")[2]))
        except AttributeError:
            raise ValueError(f"{self.__name__} is a module, and no verb") from None


class _Commands(ModuleType):
    """This package. Python sets each module below as an attribute when it is first imported."""

    def __setattr__(self, name: str, value: object) -> None:
        """A module that has the name of its verb can be called from then on."""
        if type(value) is ModuleType and value.__name__ == f"{__name__}.{name}":
            value.__class__ = _CallableModule
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return list(__all__)


def _function(verb: str) -> Any:
    module, _, name = _VERBS.get(verb, f"{verb}:{verb}").partition(":")
    return getattr(importlib.import_module(f"{__name__}.{module}"), name)


if not TYPE_CHECKING:
    # To a type checker, a module with this function has every name.
    def __getattr__(name: str) -> object:
        """A verb that nothing has used yet.

        Raises:
            AttributeError: there is none of that name; with the one that was probably meant.
        """
        if name not in _VERBS:
            raise AttributeError(
                f"qmigrate.commands has no verb {name!r}{did_you_mean(name, __all__)}", name=name, obj=None
            )
        module = f"{__name__}.{name}"
        try:
            return importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
        return _function(name)


sys.modules[__name__].__class__ = _Commands
