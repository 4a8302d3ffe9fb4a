"""Rules about Alembic's revisions and qmigrate's together: found on their lines, and nothing of Alembic's is run."""

from __future__ import annotations

import pytest
from tests.unit.lint.test_lint import ADD, CREATE, Folder

from qmigrate.errors import ConfigError
from qmigrate.lint import RULES

INI = "[alembic]\nscript_location = %(here)s/db\nfile_template = %%(rev)s_x\n"
ENV = """
from alembic import context
import qmigrate.alembic as qma

qm = qma.integrate(context, connection)
context.configure(connection=connection, transaction_per_migration=True, **qm.options())
context.configure(url="x", literal_binds=True, **qm.options())
"""
ALEMBIC = '''"""Revision {id}

Create Date: 2026-01-{day:02} 12:00:00.000001

"""
from typing import Union
import sqlalchemy as sa
from alembic import op
from qmigrate import Embed, Empty
from qmigrate import op as vectors
from qmigrate.alembic import qdrant

STEP = "0002"
revision: str = "{id}"
down_revision: Union[str, None] = {down!r}
raise SystemExit("no process may run this file")


def upgrade() -> None:
{body}


def downgrade():
    pass
'''
INDEX = 'op.CreatePayloadIndex("docs", "kind", "keyword")'
COLUMN = 'op.add_column("t", sa.Column("x", sa.Integer))'
DROP = 'op.drop_column("t", "x")'
REQUIRE = 'qdrant.require("0002")'
RUN = "qdrant.run(STEP)"
APPLY = 'qdrant.apply("k", vectors.AddVector("docs", "c", PARAMS, values=Embed("words", text="text")))'


class Both(Folder):
    """qmigrate's revisions 0001 (creates) and 0002 (embeds), and an Alembic environment next to them."""

    def __init__(self, root, *bodies, env: str = ENV, ini: str = INI, second: str = ADD, more: str = "", config: str = "") -> None:
        super().__init__(root)
        self.days = 0
        self.down: str | None = None
        self.revise(CREATE)
        self.revise(second, more=more)
        settings = root / "qmigrate.yaml"
        settings.write_text(settings.read_text() + config)
        (root / "alembic.ini").write_text(ini)
        (root / "db" / "versions").mkdir(parents=True)
        (root / "db" / "env.py").write_text(env)
        for place, body in enumerate(bodies, 1):
            self.alembic(f"a{place}", *([body] if isinstance(body, str) else body))

    def alembic(self, identifier: str, body: str, *, down: str | None = "previous", days: int = 1):
        """A revision of Alembic, made `days` after the one before."""
        self.days += days
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        parent = self.down if down == "previous" else down
        path = self.root / "db" / "versions" / f"{identifier}.py"
        path.write_text(ALEMBIC.format(id=identifier, down=parent, body=lines, day=self.days))
        self.down = identifier
        return path

    def found(self) -> list[tuple[str, str]]:
        """(file, code) of what the rules about Alembic find."""
        return [(one.path.name, one.code) for one in self.lint().findings if one.code.startswith("QM6") or one.code < "QM1"]


def both(*bodies, **more):
    """Makes a folder."""
    return lambda root: Both(root, *bodies, **more)


def branches(second: str, *, days: int = 1):
    """Two revisions that follow the same one."""

    def make(root) -> Both:
        found = Both(root, COLUMN, RUN.replace(")", ', max_estimate="10m")'))
        found.alembic("b2", second, down="a1", days=days)
        return found

    return make


def apart(first: str, second: str, days: int):
    """A gate, and something some days later."""

    def make(root) -> Both:
        found = Both(root, first)
        found.alembic("a2", second, days=days)
        return found

    return make


BOUNDED = 'qdrant.run("0002", max_estimate="10m")'
SMALL = "lint: {points: {'do*': 900}}\n"
#: (code or None for nothing, the file with the finding, how the folder is made).
CASES = (
    (None, "", both(COLUMN, REQUIRE)),
    (None, "", both(f"{REQUIRE}\n{COLUMN}")),
    ("QM601", "a1.py", both(f"{COLUMN}\n{REQUIRE}")),
    ("QM601", "a1.py", both(f"{BOUNDED}\n{COLUMN}")),
    ("QM601", "a1.py", both(f"def more():\n    {COLUMN}\n{BOUNDED}\nwith op.batch_alter_table('t') as b:\n    b.add_column(1)")),
    ("QM602", "env.py", both(COLUMN, REQUIRE, env=ENV.replace("transaction_per_migration=True, ", ""))),
    ("QM602", "env.py", both(REQUIRE, env=ENV.replace("_migration=True", "_migration=False"))),
    ("QM602", "env.py", both(REQUIRE, env=ENV.replace("connection=connection, transaction_per_migration=True, ", "connection, "))),
    (None, "", both(REQUIRE, env=ENV.replace("transaction_per_migration=True", "**conf_args"))),
    (None, "", both(COLUMN, env="from alembic import context\ncontext.configure(connection=1)\n")),
    ("QM603", "env.py", both(REQUIRE, env=ENV.replace("qma.integrate(context, connection)", "None"))),
    ("QM604", "a1.py", both(RUN)),
    ("QM604", "a1.py", both(RUN, config=SMALL.replace("900", "900000"))),
    (None, "", both(RUN, config=SMALL)),
    (None, "", both(BOUNDED)),
    (None, "", both(RUN, second=INDEX)),
    (None, "", both(REQUIRE, RUN.replace("STEP", '"0001"'))),
    (None, "", both('qdrant.run("0001")')),
    ("QM604", "a1.py", both(APPLY)),
    ("QM604", "a1.py", both('qdrant.add_vector_dimension(collection="d*", vector_name="r", size=384, values=Embed("words", text="t"))')),
    (None, "", both('qdrant.add_vector_dimension(collection="d*", vector_name="r", size=384)')),
    (None, "", both('qdrant.apply("k", vectors.DropPayloadIndex("docs", "x"))', 'qdrant.require("k")')),
    (None, "", both(APPLY, config=SMALL)),
    (None, "", both(APPLY.replace('Embed("words", text="text")', "Empty()"))),
    ("QM605", "a1.py", both(f"{REQUIRE}\n{DROP}")),
    ("QM605", "a2.py", apart(REQUIRE, DROP, 6)),
    ("QM605", "a2.py", apart(REQUIRE, 'op.execute(sa.text("ALTER TABLE t DROP COLUMN x"))', 1)),
    ("QM605", "a2.py", apart(REQUIRE, 'with op.batch_alter_table("t") as b:\n    b.drop_column("x")', 1)),
    ("QM605", "a2.py", apart(BOUNDED, 'qdrant.revert("0002")', 1)),
    (None, "", apart(REQUIRE, DROP, 8)),
    (None, "", apart(REQUIRE, 'op.execute("UPDATE t SET x = 1")', 1)),
    (None, "", apart(COLUMN, DROP, 1)),
    ("QM606", "b2.py", branches(BOUNDED)),
    (None, "", branches(REQUIRE)),
    ("QM607", "0002_rev.py", both(COLUMN, more='requires_sql = "zz"')),
    (None, "", both(COLUMN, more='requires_sql = "a1"')),
    ("QM608", "a1.py", both('qdrant.require("0009")')),
    (None, "", both("qdrant.require(len)")),
    (None, "", both('qdrant.apply("k", vectors.DropPayloadIndex("docs", "x"))', 'x = 1\nqdrant.revert("k")', config="rebuild: {holdover: 1h}\n")),
    ("QM609", "a2.py", both(COLUMN, REQUIRE, COLUMN, more='requires_sql = "a3"')),
    (None, "", both(COLUMN, REQUIRE, COLUMN, more='requires_sql = "a1"')),
    ("QM610", "alembic.ini", both(ini="[alembic]\n")),
    ("QM610", "alembic.ini", both(ini=INI.replace("/db", "/nowhere"))),
    ("QM610", "a1.py", both("def broken(:")),
)


def test_every_rule_has_a_case():
    """The table names each rule about Alembic."""
    assert sorted({code for code, *_ in CASES if code}) == [rule.code for rule in RULES if rule.code.startswith("QM6")]


@pytest.mark.parametrize(("code", "file", "make"), CASES, ids=[f"{n}-{case[0]}" for n, case in enumerate(CASES)])
def test_a_rule_finds_what_it_is_there_for(code, file, make, tmp_path):
    """The broken project has that finding in that file; the sound one next to it has none at all."""
    folder = make(tmp_path / "project")
    found = folder.found()
    if code is None:
        assert found == [], folder.lint().findings
        return
    assert (file, code) in found, folder.lint().findings
    assert {one for _, one in found} == {code}, folder.lint().findings
    assert all(1 <= one.line <= one.end_line for one in folder.lint().findings)


def test_a_finding_is_on_its_line_and_can_be_ignored_with_a_reason(tmp_path):
    """A comment in Alembic's file silences the rule with a reason, and is a finding itself without one."""
    folder = Both(tmp_path / "p", f"{REQUIRE}\n{DROP}  # qmigrate: ignore[QM605] no query reads x since May")
    assert folder.found() == []
    (ignored,) = folder.lint().suppressed
    assert (ignored.finding.code, ignored.reason) == ("QM605", "no query reads x since May")
    path = folder.alembic("a2", f"{DROP}  # qmigrate: ignore[QM605]")
    assert sorted(folder.found()) == [("a2.py", "QM002"), ("a2.py", "QM605")]
    (found,) = [one for one in folder.lint().findings if one.code == "QM605"]
    assert path.read_text().splitlines()[found.line - 1].strip().startswith("op.drop_column")
    assert "gate 0002 (a1.py)" in found.message
    assert folder.lint().sql_files == 2


def test_where_the_environment_is_found(tmp_path):
    """Next to the settings, in pyproject.toml, in a package, in further folders; named, or not there at all."""
    folder = Both(tmp_path / "p", f"{REQUIRE}\n{DROP}")
    root, settings = folder.root, (folder.root / "qmigrate.yaml").read_text()
    hit = [("a1.py", "QM605")]

    def config(text: str) -> None:
        (root / "qmigrate.yaml").write_text(settings + text)

    (root / "alembic.ini").unlink()
    assert folder.found() == []
    (root / "migrations").symlink_to(root / "db")
    (root / "db" / "alembic.ini").write_text("[alembic]\n")
    assert folder.found() == hit
    (root / "migrations").unlink()
    (root / "pyproject.toml").write_text('[tool.alembic]\nscript_location = "%(here)s/db"\n')
    assert folder.found() == hit
    (root / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert folder.found() == []
    (root / "src" / "app").mkdir(parents=True)
    (root / "db").rename(root / "src" / "app" / "db")
    (root / "own.ini").write_text("[alembic]\nscript_location = app:db\n")
    config("sql: {config: own.ini}\n")
    assert folder.found() == hit
    (root / "src" / "app" / "db" / "versions").rename(root / "more")
    assert folder.found() == []
    (root / "own.ini").write_text("[alembic]\nscript_location = src/app/db\nversion_locations = none:more\npath_separator = :\n")
    assert folder.found() == hit
    config("sql: {config: gone.ini}\n")
    with pytest.raises(ConfigError, match=r"there is no file .*gone\.ini"):
        folder.lint()
