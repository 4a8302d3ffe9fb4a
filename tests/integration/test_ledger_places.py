"""Where a ledger may be, what its file looks like, and that no password ever shows."""

from __future__ import annotations

import os
import socket
import stat
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url

from qmigrate.alembic.lock import only_one
from qmigrate.atomic_file import writing
from qmigrate.commands.session import opened_ledger
from qmigrate.errors import ConfigError, LedgerError
from qmigrate.ledger import Ledger
from qmigrate.ledger.database import unlisted_mount
from qmigrate.settings.load import Settings
from qmigrate.store.address import ConnectionSettings
from qmigrate.store.connect import connect

pytestmark = pytest.mark.timeout(120)

SECRET = "hunter2-s3cr3t"
MOUNTS = r"""/dev/root / ext4 rw 0 0
server:/export /mnt/share nfs4 rw 0 0
/dev/sdb /mnt/share/local xfs rw 0 0
//nas/team /mnt/team\040files cifs rw 0 0
tmpfs /mnt/over nfs rw 0 0
tmpfs /mnt/over tmpfs rw 0 0
10.0.0.1:6789:/ /mnt/ceph ceph rw 0 0
gv0 /mnt/gluster fuse.glusterfs rw 0 0
10.0.0.2@tcp:/l /mnt/lustre lustre rw 0 0
C:\134 /mnt/c 9p rw 0 0
share /mnt/host virtiofs rw 0 0
s3fs /mnt/bucket fuse.s3fs rw 0 0
overlay /mnt/layer overlay rw 0 0
pool/x /mnt/pool zfs rw 0 0
brandnew /mnt/new neverheardof rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/home/ann/ledger.db", None),
        ("/mnt/share/ledger.db", "nfs4 at /mnt/share"),
        ("/mnt/share", "nfs4 at /mnt/share"),
        ("/mnt/shared/ledger.db", None),
        ("/mnt/share/local/ledger.db", None),
        ("/mnt/team files/x/ledger.db", "cifs at /mnt/team files"),
        ("/mnt/over/ledger.db", None),
        ("/mnt/gluster/ledger.db", "fuse.glusterfs at /mnt/gluster"),
        *[(f"/mnt/{name}/ledger.db", f"{name} at /mnt/{name}") for name in ("ceph", "lustre")],
        ("/mnt/c/ledger.db", "9p at /mnt/c"),
        ("/mnt/host/ledger.db", "virtiofs at /mnt/host"),
        ("/mnt/bucket/ledger.db", "fuse.s3fs at /mnt/bucket"),
        ("/mnt/layer/ledger.db", None),
        ("/mnt/pool/ledger.db", None),
        ("/mnt/new/ledger.db", "neverheardof at /mnt/new"),
    ],
)
def test_only_local_file_systems_are_trusted(path: str, found: str | None) -> None:
    """What is not on the list is not trusted. The longest mount point counts, and of two on one point the later."""
    assert unlisted_mount(path, MOUNTS) == found
    if found is not None:
        assert unlisted_mount(path, MOUNTS, [found.partition(" ")[0]]) is None


def test_where_mounts_are_not_told_nothing_is_refused() -> None:
    """A path below no known mount is not judged."""
    assert unlisted_mount("/mnt/ledger.db", "") is None


def test_another_file_system_is_refused_unless_the_settings_allow_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is connected or made; ledger.file_systems reaches every opening, the lease's own too."""
    monkeypatch.setattr("qmigrate.ledger.database.LOCAL_FILE_SYSTEMS", frozenset())
    url = f"sqlite:///{tmp_path}/ledger.db"
    with pytest.raises(LedgerError, match="not known to be local") as caught:
        Ledger.open(url)
    hint = str(caught.value.hint)
    kind = hint.partition("ledger.file_systems: [")[2].partition("]")[0]
    assert kind
    config = tmp_path / "qmigrate.yaml"
    config.write_text(f"ledger: {{url: '{url}', file_systems: [{kind}]}}")
    with opened_ledger(Settings.load(config=config, environ={})) as ledger:
        ledger.prepare()
        ledger.database.dedicated().close()


def test_new_files_and_folders_belong_to_their_user_alone(tmp_path: Path) -> None:
    """0700 and 0600; folders that were there keep their rights."""
    tmp_path.chmod(0o755)
    ledger = Ledger.open(f"sqlite:///{tmp_path}/a/b/ledger.db")
    ledger.prepare()
    ledger.close()
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("", "a", "a/b", "a/b/ledger.db")]
    assert [oct(mode) for mode in modes] == ["0o755", "0o700", "0o700", "0o600"]


def test_a_relative_path_is_that_of_the_opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of the working directory doesn't move the ledger."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    ledger = Ledger.open("sqlite:///mine/ledger #1%.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    ledger.prepare()
    ledger.close()
    assert (tmp_path / "mine" / "ledger #1%.db").exists()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told_in_words(tmp_path: Path) -> None:
    """The error names the file and the reason."""
    (tmp_path / "taken").write_text("a file, not a folder")
    ledger = Ledger.open(f"sqlite:///{tmp_path}/taken/ledger.db")
    assert ledger.identity() is None
    with pytest.raises(LedgerError) as caught:
        ledger.prepare()
    ledger.close()
    assert caught.value.message == f"the SQLite ledger {tmp_path}/taken/ledger.db can't be written: Not a directory"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write_is_told_in_words(tmp_path: Path) -> None:
    """Before a database without its log is made."""
    tmp_path.chmod(0o555)
    ledger = Ledger.open(f"sqlite:///{tmp_path}/ledger.db")
    with pytest.raises(LedgerError, match="can't be written: Permission denied"):
        ledger.prepare()
    ledger.close()
    tmp_path.chmod(0o755)


def test_a_file_that_is_no_database_is_told_in_words(tmp_path: Path) -> None:
    """Reading and preparing both, and the file stays as it was."""
    file = tmp_path / "ledger.db"
    file.write_text("these are my notes, not a database " * 40)
    ledger = Ledger.open(f"sqlite:///{file}")
    for attempt in (ledger.identity, ledger.prepare):
        with pytest.raises(LedgerError, match="not a database"):
            attempt()
    ledger.close()
    assert file.read_text().startswith("these are my notes")


@pytest.mark.parametrize(
    "url",
    [
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory&uri=true",
        "mysql://u:{secret}@h/d",
        "not a url {secret}",
        "postgresql://u:{secret}@h:port/d",
        "",
    ],
)
def test_urls_that_cannot_be_a_ledger(url: str) -> None:
    """Refused as configuration, with what to write instead and without the URL's secrets."""
    with pytest.raises(ConfigError) as caught:
        Ledger.open(url.format(secret=SECRET))
    assert "sqlite:///" in (caught.value.hint or "")
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "driver", ["postgres", "postgresql", "postgresql+psycopg", "postgresql+psycopg2", "postgresql+asyncpg"]
)
def test_any_driver_of_postgresql_means_psycopg(driver: str) -> None:
    """The application's own DATABASE_URL can be given as it is; the label has no secret."""
    ledger = Ledger.open(f"{driver}://ann:{SECRET}@db.example:5433/app?password={SECRET}&sslmode=disable")
    assert ledger.url_label == "postgresql ann@db.example:5433/app"
    assert SECRET not in f"{ledger} {ledger!r} {ledger.database!r} {ledger.url_label}"


def test_an_unreachable_server_is_told_without_the_password() -> None:
    """Message, hint and traceback, from reading and from preparing."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused at once
        url = f"postgresql://ann:{SECRET}@127.0.0.1:{taken.getsockname()[1]}/app"
        ledger = Ledger.open(url)
        for attempt in (ledger.identity, ledger.prepare, ledger.ready):
            with pytest.raises(LedgerError) as caught:
                attempt()
            shown = "".join(traceback.format_exception(caught.value)) + str(caught.value.hint)
            assert "postgresql ann@127.0.0.1" in caught.value.message
            assert caught.value.exit_code == 9
            assert SECRET not in shown
            assert "\n" not in caught.value.message
        ledger.close()


@pytest.mark.postgres
def test_what_a_server_answers_is_told_without_the_password(postgres_url: str) -> None:
    """Even when the secret is part of the server's own message."""
    url = make_url(postgres_url).set(database=SECRET, password=SECRET)
    ledger = Ledger.open(url.render_as_string(hide_password=False).replace(f"/{SECRET}", f"/x{SECRET}x"))
    with pytest.raises(LedgerError) as caught:
        ledger.identity()
    ledger.close()
    assert "does not exist" in caught.value.message
    assert SECRET not in caught.value.message.replace(ledger.url_label, "")
    assert caught.value.__cause__ is None


def test_a_database_that_comes_back_is_used_again(ledger_url: str) -> None:
    """Closing is not final: the next call connects again."""
    ledger = Ledger.open(ledger_url)
    identity = ledger.prepare()
    ledger.close()
    assert ledger.identity() == identity
    ledger.close()
    ledger.close()


def _by_ledger(folder: Path) -> None:
    ledger = Ledger.open(f"sqlite:///{folder}/ledger.db")
    ledger.prepare()
    ledger.close()


def _by_store(folder: Path) -> None:
    connect(ConnectionSettings(path=str(folder / "qdrant"))).close()


def _by_archive(folder: Path) -> None:
    with writing(folder / "snapshots" / "a.qma") as out:
        out.write(b"points")


def _by_alembic(folder: Path) -> None:
    engine = create_engine(f"sqlite:///{folder}/app.db")
    with only_one(engine, "alembic_version", 0):
        pass
    engine.dispose()


@pytest.mark.parametrize("made_by", [_by_ledger, _by_store, _by_archive, _by_alembic])
def test_whoever_makes_the_folder_of_the_state_makes_it_private(
    tmp_path: Path, made_by: Callable[[Path], None]
) -> None:
    """Points, exports and the ledger are for one user, whichever of them is written first."""
    before = os.umask(0o022)
    try:
        made_by(tmp_path / "new" / ".qmigrate")
    finally:
        os.umask(before)
    modes = {stat.S_IMODE(folder.stat().st_mode) for folder in (tmp_path / "new", tmp_path / "new" / ".qmigrate")}
    assert modes == {0o700}
