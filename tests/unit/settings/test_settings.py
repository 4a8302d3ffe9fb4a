"""Settings: precedence, units, paths, secrets, and mistakes that are named before anything is opened."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import get_type_hints

import pytest

from qmigrate.errors import ConfigError
from qmigrate.settings.load import Settings
from qmigrate.settings.values import duration, parse_duration, positive_duration, redact, sql_label, timeout


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty current folder, without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(text: str = "# Nothing.\n", folder: Path | None = None, environ: dict | None = None, **flags) -> Settings:
    """Write the text as the settings file, and read it."""
    file = (folder or Path.cwd()) / "qmigrate.yaml"
    file.write_text(textwrap.dedent(text))
    return Settings.load(config=file, environ=environ or {}, **flags)


def refusal(text: str, **more) -> ConfigError:
    """The error that reading the text ends in."""
    with pytest.raises(ConfigError) as caught:
        load(text, **more)
    return caught.value


def test_defaults_live_beside_the_current_folder(here):
    """Without any configuration, local mode and SQLite are under .qmigrate."""
    found = Settings.load(environ={})
    assert found.qdrant.path == here / ".qmigrate/qdrant"
    assert found.qdrant.url is None
    assert found.ledger.url == f"sqlite:///{here}/.qmigrate/ledger.db"
    assert found.ledger.defaulted
    assert found.scripts == here / "qdrant_migrations"
    assert found.fixes.exports == here / ".qmigrate/exports"
    assert found.config is None


def test_every_documented_key_is_read(here):
    """Every key of the reference in the design arrives with its type and unit."""
    found = load(
        """
        qdrant:
          url: https://localhost:6333
          grpc_port: 7334
          grpc_host: grpc.example.com
          grpc_tls: false
          prefer_rest: true
          api_key_env: KEY
          timeout: 5m
          nodes: [http://localhost:6333, http://localhost:6433/]
          ca_cert: certs/ca.pem
          prefix: db
          compression: true
        ledger: {url: "postgresql://app:pw@db/app", schema: q}
        databases: {app: {url_env: DATABASE_URL}}
        scripts: migrations
        embedders:
          l14: {type: pixels, size: 768, image_roots: [images, /data/images]}
        rebuild: {writes: refuse, snapshot: off, verify: full, holdover: 24h, ranges: 8, fuse: false,
                  max_rate: 500, gc: off, workers: 2, sample: 10}
        fixes: {exports: out, undo: 2d, max_share: 0.5, presets: {old: {filter: {}}}}
        limits: {lock_timeout: 0, lease_ttl: 90s, max_quarantine: 0.5, ready_timeout: 1h, settle: 500ms}
        """,
        environ={"KEY": "k", "DATABASE_URL": "mysql://x/y"},
    )
    assert found.connection() == {
        "url": "https://localhost:6333",
        "path": None,
        "grpc_port": 7334,
        "grpc_host": "grpc.example.com",
        "grpc_tls": False,
        "prefer_rest": True,
        "api_key": "k",
        "timeout": 300.0,
        "nodes": ("http://localhost:6333", "http://localhost:6433"),
        "ca_cert": str(here / "certs/ca.pem"),
        "prefix": "db",
        "compression": True,
    }
    assert (found.ledger.url, found.ledger.schema) == ("postgresql+psycopg://app:pw@db/app", "q")
    assert found.database("app") == "mysql://x/y"
    assert found.scripts == here / "migrations"
    assert found.embedders["l14"]["image_roots"] == [str(here / "images"), "/data/images"]
    rebuild = found.rebuild
    assert (rebuild.writes, rebuild.snapshot, rebuild.gc, rebuild.fuse) == ("refuse", "off", "off", False)
    assert (rebuild.holdover, rebuild.ranges, rebuild.max_rate) == (86400.0, 8, 500.0)
    assert (found.fixes.exports, found.fixes.undo) == (here / "out", 172800.0)
    assert (found.limits.lock_timeout, found.limits.lease_ttl, found.limits.settle) == (0.0, 90.0, 0.5)


def test_where_alembic_is(here):
    """The ledger's database unless another is given; paths start at the file, and the URL is in no text."""
    assert (load().sql.url, load().sql.version_table) == (None, "alembic_version")
    text = "sql: {url_env: SQL, version_table: v, version_table_schema: app, config: migrations/alembic.ini}"
    found = load(text, environ={"SQL": "postgresql://app:hush@db/app"})
    assert found.sql.url == "postgresql+psycopg://app:hush@db/app"
    assert (found.sql.version_table, found.sql.version_table_schema) == ("v", "app")
    assert found.sql.config == here / "migrations/alembic.ini"
    assert "hush" not in repr(found)
    assert "SQL" in refusal(text).message
    assert "sql.versions" in refusal("sql: {versions: 3}").message


def test_the_connection_fits_the_store(here):
    """connection() names exactly what the store's settings take."""
    from qmigrate.store.address import ConnectionSettings

    assert ConnectionSettings(**load("qdrant: {path: data}").connection()).path == str(here / "data")


def test_flags_win_over_the_environment_and_that_over_the_file(here):
    """The order is flag, environment, file, default."""
    text = 'qdrant: {path: data}\nledger: {url: "sqlite:///a.db"}\nscripts: a'
    environ = {
        "QMIGRATE_QDRANT_URL": "http://localhost:1",
        "QMIGRATE_LEDGER_URL": "sqlite:///b.db",
        "QMIGRATE_SCRIPTS": "b",
    }
    from_env = load(text, environ=environ)
    assert (from_env.qdrant.url, from_env.qdrant.path) == ("http://localhost:1", None)
    assert from_env.ledger.url == f"sqlite:///{here}/b.db"
    assert from_env.scripts == here / "b"
    flags = {"qdrant_url": "http://localhost:2", "ledger_url": "sqlite:////c.db", "scripts": "c"}
    flagged = load(text, environ=environ, **flags)
    assert (flagged.qdrant.url, flagged.ledger.url, flagged.scripts) == (
        "http://localhost:2",
        "sqlite:////c.db",
        here / "c",
    )


def test_relative_paths_start_at_the_file(here):
    """Paths in a file start at its folder, those of flags at the current folder."""
    other = here / "deploy"
    other.mkdir()
    found = load('ledger: {url: "sqlite:///l.db?timeout=5"}\nscripts: m', folder=other)
    assert found.ledger.url == f"sqlite:///{other}/l.db?timeout=5"
    assert found.scripts == other / "m"
    assert found.qdrant.path == other / ".qmigrate/qdrant"
    assert load("# Nothing.", folder=other, scripts="m").scripts == here / "m"


def test_the_grpc_port_of_the_environment_wins_over_the_file(here):
    """Containers name both of Qdrant's ports by variables; what is not a port is refused by the variable's name."""
    text = "qdrant: {url: 'http://localhost:1', grpc_port: 7000}"
    assert load(text).qdrant.grpc_port == 7000
    assert load(text, environ={"QMIGRATE_QDRANT_GRPC_PORT": "7334"}).qdrant.grpc_port == 7334
    for wrong in ("0", "65536", "6334/tcp", "-1", "\u0663"):
        with pytest.raises(ConfigError, match="QMIGRATE_QDRANT_GRPC_PORT"):
            load(text, environ={"QMIGRATE_QDRANT_GRPC_PORT": wrong})


@pytest.mark.parametrize("url", [None, "http://localhost:6333"])
def test_a_default_ledger_that_cannot_be_written_is_refused_by_name(here, url):
    """A forgotten QMIGRATE_LEDGER_URL in an image is a setting that is wrong (2), not a traceback (1)."""
    (here / ".qmigrate").write_text("a file where the folder would be")
    with pytest.raises(ConfigError, match="no ledger is configured") as refused:
        load(environ={"QMIGRATE_QDRANT_URL": url} if url else {})
    assert "QMIGRATE_LEDGER_URL" in refused.value.hint
    assert refused.value.exit_code == 2
    assert load(environ={"QMIGRATE_LEDGER_URL": "postgresql+psycopg://app@db/app"}).ledger.label == "postgresql app@db/app"


def test_the_file_is_found_by_environment_and_in_the_current_folder(here):
    """QMIGRATE_CONFIG names a file; else qmigrate.yaml of the current folder is used."""
    (here / "qmigrate.yaml").write_text("scripts: one")
    (here / "other.yaml").write_text("scripts: two")
    assert Settings.load(environ={}).scripts.name == "one"
    assert Settings.load(environ={"QMIGRATE_CONFIG": "other.yaml"}).scripts.name == "two"
    with pytest.raises(ConfigError, match="does not exist"):
        Settings.load(environ={"QMIGRATE_CONFIG": "third.yaml"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rebiuld: {}", 'unknown key "rebiuld".*did you mean "rebuild"'),
        ("qdrant: {urll: x}", 'unknown key "qdrant.urll".*did you mean "url"'),
        ("qdrant: {api_key: secret}", 'unknown key "qdrant.api_key".*did you mean "api_key_env"'),
        ("rebuild: {hold: 1d}", 'unknown key "rebuild.hold"'),
        ("collections: {x: {rebuild: {sampel: 3}}}", 'unknown key "collections.x.rebuild.sampel".*"sample"'),
        ("databases: {app: {uri: x}}", 'unknown key "databases.app.uri"'),
        ("rebuild: {holdover: soon}", "rebuild.holdover must be a duration such as"),
        ("rebuild: {holdover: 7 fortnights}", "rebuild.holdover must be a duration"),
        ("rebuild: {holdover: -1}", "rebuild.holdover must be a duration"),
        ("limits: {lease_ttl: 0s}", "limits.lease_ttl must be a duration above 0"),
        ("rebuild: {workers: many}", "rebuild.workers must be a whole number from 1 to 256, not 'many'"),
        ("rebuild: {workers: true}", "rebuild.workers must be a whole number"),
        ("rebuild: {workers: 1.5}", "rebuild.workers must be a whole number"),
        ("rebuild: {ranges: some}", "rebuild.ranges must be a whole number"),
        ("rebuild: {fuse: maybe}", "rebuild.fuse must be true or false"),
        ("rebuild: {writes: dual}", "rebuild.writes must be converge or freeze or refuse"),
        ("rebuild: {snapshot: [1]}", "rebuild.snapshot must be auto or off"),
        ("rebuild: {max_rate: .nan}", "rebuild.max_rate must be a number above 0"),
        ("limits: {max_quarantine: 2.5}", "limits.max_quarantine must be a share from 0 to 1"),
        ("qdrant: {nodes: http://a}", "qdrant.nodes must be a list"),
        ("qdrant: {url: localhost:6333}", "qdrant.url must be a URL such as"),
        ("qdrant: {url: 'ftp://x'}", "qdrant.url must be a URL such as"),
        ("qdrant: {url: 'http://'}", "qdrant.url must be a URL such as"),
        ("qdrant: {url: 'http://x:99999'}", "qdrant.url must be a URL such as"),
        ("qdrant: {url: 'http://localhost', path: x}", "both url and path"),
        ("qdrant: {url: 'http://localhost/a', prefix: b}", "qdrant.prefix is 'b'"),
        ("qdrant: {api_key_env: 'not a name!'}", "must be the name of an environment variable"),
        ("qdrant: [1]", "qdrant must be keys and values, not a list"),
        ("collections: {no: {}}", "line 1: the key no is not a text to YAML"),
        ("embedders:\n  2024: {type: hashing}", "line 2: the key 2024 is not a text to YAML"),
        ("fixes:\n  presets:\n    off: {}", "line 3: the key off is not a text to YAML"),
        ("scripts: 3", "scripts must be a path"),
        ("embedders: {a: {size: 3}}", "embedders.a has no type"),
        ("ledger: {url: 'mysql://x/y'}", "PostgreSQL or SQLite, not in mysql"),
        ("ledger: {url: 'sqlite://'}", "in memory"),
        ("ledger: {url: 'sqlite://x.db'}", "three slashes"),
        ("ledger: {url: db}", "ledger.url must be a SQLAlchemy URL"),
        ("ledger: {url: 'sqlite:///a', url_env: B}", "both url and url_env"),
        ("ledger: {url_env: NOT_SET}", "the environment variable NOT_SET is not set"),
        ("ledger: {url_file: none.txt}", "can't be read: No such file"),
        ("- a\n- b", "must hold keys and values, not a list"),
        ("rebuild: {fuse: true\n", "line 2: "),
        ("scripts: a\nscripts: b", 'line 2: the key "scripts" is given twice'),
        ("qdrant: {timeout: 1, timeout: 2}", 'the key "timeout" is given twice'),
    ],
)
def test_mistakes_are_named(here, text, said):
    """Every mistake is a ConfigError that names where it is and what belongs there."""
    import re

    assert re.search(said, refusal(text).message), refusal(text).message


@pytest.mark.parametrize(
    "text",
    [
        'qdrant: {url: "http://user:hunter2@host:6333"}',
        'qdrant: {url: "ftp://user:hunter2@host"}',
        'qdrant: {url: "http://user:hunter2@host:port"}',
        'ledger: {url: "mysql://user:hunter2@host/x"}',
        'ledger: {url: "user:hunter2 @host"}\nrebuild: {x: 1}',
        "qdrant: {api_key_env: 'hunter2 is my key'}",
        'ledger: {url: "postgresql://u:hunter2@h/x}\nscripts: "',
        "qdrant:\n  url: http://u:hunter2@h\n bad: hunter2",
    ],
)
def test_errors_show_no_secret(here, text):
    """A malformed value is named without its password."""
    error = refusal(text)
    assert "hunter2" not in f"{error.message} {error.hint} {error.facts}"


def test_secrets_are_in_no_text(here):
    """Neither repr nor str of the settings or of a part shows a key or a password."""
    (here / "url.txt").write_text("postgresql://app:s3cret-three@db/app\n")
    found = load(
        """
        qdrant: {url: "http://localhost:6333", api_key_env: KEY}
        ledger: {url: "postgresql+psycopg://app:s3cret-one@db/app?password=s3cret-two"}
        databases: {app: {url_file: url.txt}}
        embedders: {m: {type: http, key: s3cret-four}}
        """,
        environ={"KEY": "s3cret-five"},
    )
    assert found.qdrant.api_key == "s3cret-five"
    assert found.database("app") == "postgresql+psycopg://app:s3cret-three@db/app"
    parts = [found, found.qdrant, found.ledger, found.databases["app"], found.for_collection("x")]
    labels = [found.ledger.label, found.qdrant.label]
    for shown in [*map(repr, parts), *map(str, parts), *labels]:
        assert "s3cret" not in shown
    assert found.ledger.label == "postgresql app@db/app"


def test_the_key_of_the_environment_wins_and_an_unset_one_is_none(here):
    """QMIGRATE_QDRANT_API_KEY wins over api_key_env; an unset variable sends no key."""
    text = "qdrant: {url: 'http://localhost', api_key_env: KEY}"
    assert load(text, environ={"KEY": "a", "QMIGRATE_QDRANT_API_KEY": "b"}).qdrant.api_key == "b"
    assert load(text).qdrant.api_key is None


@pytest.mark.parametrize(
    ("url", "remote"),
    [
        ("http://localhost:6333", False),
        ("http://127.0.0.5:6333", False),
        ("http://[::1]:6333", False),
        ("http://qdrant:6333", True),
        ("https://10.0.0.3", True),
        ("http://localhost.example.com", True),
    ],
)
def test_a_remote_server_needs_a_chosen_ledger(here, url, remote):
    """A defaulted ledger next to a server elsewhere is refused; a chosen one is not, not even SQLite."""
    environ = {"QMIGRATE_QDRANT_URL": url}
    if remote:
        with pytest.raises(ConfigError, match="no ledger is configured"):
            Settings.load(environ=environ)
    else:
        assert Settings.load(environ=environ).qdrant.url == url
    assert Settings.load(environ={**environ, "QMIGRATE_LEDGER_URL": "sqlite:///x.db"}).qdrant.url == url
    assert Settings.load(environ=environ, stores=False).qdrant.url == url


def test_a_path_in_the_url_is_the_prefix(here):
    """What stands behind the host goes where the store expects it."""
    found = load("qdrant: {url: 'http://localhost:80/vectors/'}")
    assert (found.qdrant.url, found.qdrant.prefix) == ("http://localhost:80", "vectors")


def test_collections_override_only_what_they_name(here):
    """for_collection merges the overrides of one logical name and leaves others alone."""
    found = load(
        """
        rebuild: {workers: 2, holdover: 1d}
        embedders: {words: {type: hashing, size: 8}, other: {type: hashing, size: 4}}
        collections:
          faces: {rebuild: {holdover: 2h, ranges: 3}, embedders: {words: {type: hashing, size: 16}}}
          empty: null
        """
    )
    faces = found.for_collection("faces")
    assert (faces.rebuild.workers, faces.rebuild.holdover, faces.rebuild.ranges) == (2, 7200.0, 3)
    assert (faces.embedders["words"]["size"], faces.embedders["other"]["size"]) == (16, 4)
    assert found.for_collection("else") is found
    assert found.for_collection("empty").rebuild == found.rebuild


def test_a_database_is_missed_only_when_it_is_asked_for(here):
    """An unset variable of a database stops only the verb that needs this database."""
    found = load("databases: {app: {url_env: DATABASE_URL}}")
    with pytest.raises(ConfigError, match="DATABASE_URL is not set"):
        found.database("app")
    with pytest.raises(ConfigError, match='did you mean "app"'):
        found.database("ap")


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        *[("60s", 60.0), ("5m", 300.0), ("24h", 86400.0), ("7d", 604800.0), ("1.5 h", 5400.0), ("250ms", 0.25)],
        *[("90 days", 7776000.0), ("1 day", 86400.0), ("15 minutes", 900.0), ("2 weeks", 1209600.0), ("3 HOURS", 10800.0)],
        *[("1y", None), ("", None), ("h", None), ("-5s", None), (True, None), ("5 dayss", None), ("5 ss", None)],
        *[(timedelta(days=90), 7776000.0), (timedelta(0), 0.0), (timedelta(seconds=-1), None)],
        *[(0, 0.0), (0.0, 0.0), ("0", 0.0), ("0s", 0.0)],
        # A bare number could mean seconds or days.
        *[(3, None), (7776000.0, None), ("90", None), ("90.5", None), (float("inf"), None), (None, None), ([], None)],
    ],
)
def test_durations(written, seconds):
    """Units are read, and what is none is not guessed."""
    assert parse_duration(written) == seconds


#: Sections whose durations are those of one request each, where a bare number means seconds as in any client of HTTP.
_REQUESTS = {"qdrant"}


@pytest.mark.parametrize(
    ("section", "key"),
    [
        (section.name, key)
        for section in dataclasses.fields(Settings)
        if dataclasses.is_dataclass(kind := get_type_hints(Settings).get(section.name))
        for key, hint in get_type_hints(kind, include_extras=True).items()
        if {duration, positive_duration, timeout} & set(getattr(hint, "__metadata__", ()))
    ],
)
def test_no_setting_takes_a_bare_number_for_seconds(here, section, key):
    """Every duration of the settings: the error names what may be written; 0 stays what it is."""
    for written in ("90", '"90"', "0.5"):
        text = f"{section}: {{{key}: {written}{', url: http://localhost' if section == 'qdrant' else ''}}}"
        if section in _REQUESTS:
            load(text)
            continue
        with pytest.raises(ConfigError, match=rf"{section}.{key} is .*, which has no unit: write .*d, .*h, .*m or .*s"):
            load(text)
    more = ", url: http://localhost" if section == "qdrant" else ""
    load(f"{section}: {{{key}: 90 days{more}}}")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://app:pw@db/x", "postgresql://app:***@db/x"),
        ("postgresql://app:p@w/#d@db/x", "postgresql://app:***@db/x"),
        ("postgresql://app@db/x?password=pw&a=b", "postgresql://app@db/x?password=***&a=b"),
        ("http://h:6333/?api-key=abc", "http://h:6333/?api-key=***"),
        ("http://h:6333", "http://h:6333"),
        ("https://b.s3/a.png?x=1&X-Amz-Signature=ab&y=2", "https://b.s3/a.png?x=1&X-Amz-Signature=***&y=2"),
        ("https://b/a?X-Amz-Credential=k%2F1&X-Amz-Date=2", "https://b/a?X-Amz-Credential=***&X-Amz-Date=2"),
        ("https://b/a?X-Amz-Security-Token=t", "https://b/a?X-Amz-Security-Token=***"),
        ("https://b/a?x-goog-signature=s&x-goog-date=2", "https://b/a?x-goog-signature=***&x-goog-date=2"),
        ("https://b/a?AWSAccessKeyId=k&Signature=s", "https://b/a?AWSAccessKeyId=***&Signature=***"),
        ("https://a.blob/c?sv=1&sig=s%3D&se=2", "https://a.blob/c?sv=1&sig=***&se=2"),
        ("https://b/a?Policy=p&Key-Pair-Id=k", "https://b/a?Policy=***&Key-Pair-Id=***"),
        ("https://b/a?access_token=t&X%2DAmz%2DSignature=s", "https://b/a?access_token=***&X%2DAmz%2DSignature=***"),
    ],
)
def test_redaction(url, shown):
    """Passwords and keys are masked, also with odd characters; the rest stays readable."""
    assert redact(url) == shown


def test_sql_labels(here):
    """A ledger is named by kind and place."""
    assert sql_label(f"sqlite:///{here}/.qmigrate/l.db") == "sqlite .qmigrate/l.db"
    assert sql_label("sqlite:////elsewhere/l.db") == "sqlite /elsewhere/l.db"
    assert sql_label("postgresql+psycopg://u:p@h:1/d?sslmode=require") == "postgresql u@h:1/d"


def test_importing_the_settings_is_light():
    """The module loads neither yaml nor a driver."""
    heavy = "{'yaml', 'sqlalchemy', 'numpy', 'rich', 'qdrant_client'}"
    code = f"import sys, qmigrate.settings.load; print(*sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


VARIABLES = ("CONFIG", "QDRANT_URL", "QDRANT_API_KEY", "LEDGER_URL", "SCRIPTS", "ON_START", "MAX_ESTIMATE")


@pytest.mark.parametrize("value", ["", "  \n"])
@pytest.mark.parametrize("name", [f"QMIGRATE_{name}" for name in VARIABLES])
def test_an_empty_variable_is_an_error(here, name, value):
    """A variable that is set, but empty, is a secret that is missing: no default takes its place."""
    with pytest.raises(ConfigError, match=f"variable {name} is set, but empty"):
        Settings.load(environ={name: value})


@pytest.mark.parametrize("argument", ["config", "qdrant_url", "ledger_url", "scripts"])
def test_an_empty_argument_is_an_error(here, argument):
    """What a script passes on from a variable that is not set is not taken for nothing."""
    with pytest.raises(ConfigError, match=f"--{argument.replace('_', '-')} is given, but empty"):
        Settings.load(environ={}, **{argument: ""})


@pytest.mark.parametrize(
    "text",
    ["qdrant: {api_key_env: KEY}", "ledger: {url_env: KEY}", "sql: {url_env: KEY}"],
)
def test_a_variable_that_the_file_names_is_not_empty(here, text):
    """The variables that the settings name are not allowed to be empty either."""
    assert "variable KEY is set, but empty" in refusal(text, environ={"KEY": " "}).message


BLANKS = {
    "qdrant:": "qdrant is given in the settings, but empty",
    "qdrant: {}": "qdrant is given in the settings, but empty",
    "qdrant: {url: , api_key_env: KEY}": "qdrant.url is given in the settings, but empty",
    "qdrant: {path: null}": "qdrant.path is given in the settings, but empty",
    "ledger:": "ledger is given in the settings, but empty",
    "ledger: {url: }": "url is given, but empty",
    "ledger: {url_env: }": "url_env is given, but empty",
    "ledger: {url_file: }": "url_file is given, but empty",
    "sql: {url: }": "url is given, but empty",
    "": "is empty",
    " \n": "is empty",
}


@pytest.mark.parametrize("text", BLANKS)
def test_a_template_without_its_value_means_no_embedded_store(here, text):
    """YAML reads `url: ` as null: what should have filled it was missing, and no default takes its place."""
    assert BLANKS[text] in refusal(text).message


def test_a_key_without_a_value_is_no_matter_where_another_is_given(here):
    """What a flag or a variable says wins over the file."""
    given = {"QMIGRATE_QDRANT_URL": "http://localhost:6333", "QMIGRATE_LEDGER_URL": "sqlite:///x.db"}
    for text in ("qdrant: {url: }\nledger: {url: }", "qdrant:\nledger:", ""):
        assert load(text, environ=given).qdrant.url == "http://localhost:6333"
    assert load("# Nothing yet.\n").qdrant.path is not None


def test_a_database_without_a_url_says_so_once_it_is_used(here):
    """The key is there, and its value isn't."""
    with pytest.raises(ConfigError, match="url is given, but empty"):
        load("databases: {app: {url: }}").database("app")


def test_a_database_whose_variable_is_empty_says_so(here):
    """A database of the application is only missed once it is used, and the error has the reason."""
    with pytest.raises(ConfigError, match="variable KEY is set, but empty"):
        load("databases: {app: {url_env: KEY}}", environ={"KEY": ""}).database("app")


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("QMIGRATE_QDRANT_ULR", "QMIGRATE_QDRANT_URL"),
        ("QMIGRATE_QDRANT_APIKEY", "QMIGRATE_QDRANT_API_KEY"),
        ("QMIGRATE_QDRANT_GRPC", "QMIGRATE_QDRANT_GRPC_PORT"),
        ("QMIGRATE_LEDGER", "is not a setting of qmigrate"),
        ("QMIGRATE_QDRANT_PATH", "is not a setting of qmigrate"),
        ("QMIGRATE_SCRIPT", "QMIGRATE_SCRIPTS"),
        ("QMIGRATE_HEALTH_REQUIRES", "QMIGRATE_HEALTH_REQUIRE"),
        ("QMIGRATE_MAX_ESTIMATES", "QMIGRATE_MAX_ESTIMATE"),
    ],
)
def test_a_misspelt_variable_is_no_default(here, variable, meant):
    """Ignored it would mean the embedded Qdrant, and success: the error names the variable and what was meant."""
    error = refusal("", environ={variable: "http://qdrant:6333"})
    assert variable in str(error)
    assert meant in str(error)


@pytest.mark.parametrize(
    "variable",
    [
        "QMIGRATE_QDRANT_SERVICE_HOST",
        "QMIGRATE_QDRANT_PORT",
        "QMIGRATE_QDRANT_PORT_6333_TCP_ADDR",
        "QMIGRATE_QDRANT_SERVICE_PORT_HTTP",
        "QMIGRATE_APP_DATABASE",
        "QMIGRATE_TEST_POSTGRES_URL",
        "QMIGRATE_ON_START",
        "QMIGRATE_LEDGER_SECRET",
        "OTHER_QDRANT_ULR",
    ],
)
def test_variables_of_others_are_left_alone(here, variable):
    """Those of Kubernetes, of the entrypoint, and those that the file itself names."""
    load("databases: {app: {url_env: QMIGRATE_LEDGER_SECRET}}", environ={variable: "sqlite:////tmp/x.db"})


@pytest.mark.parametrize("name", ["docs*", "'docs_?'", "'glob:docs[eu]'"])
def test_settings_of_one_collection_take_no_glob(here, name):
    """Nothing would be set by it."""
    assert "a glob" in str(refusal(f"collections: {{{name}: {{rebuild: {{holdover: 30d}}}}}}"))
    load("collections: {'docs[eu]': {rebuild: {holdover: 30d}}}")


PRESET = "fixes: {presets: {p: {collection: c, reason: r, filter: {must: [{key: k, match: {value: %s}}]}}}}"


@pytest.mark.parametrize(
    ("word", "read_as"),
    [
        ("007", "7"),
        ("010", "8"),
        ("12:30", "750"),
        ("0x10", "16"),
        ("1_0", "10"),
        ("0b11", "3"),
        ("no", "False"),
        ("on", "True"),
        ("2024-01-01", "a date"),
        (".5", "0.5"),
    ],
)
def test_what_a_preset_compares_is_what_stands_there(here, word, read_as):
    """YAML would select other points by it: refused, with what it reads; in quotes it is the text."""
    error = refusal(PRESET % word)
    assert f"line 1: YAML reads {word} as {read_as}" in str(error)
    found = load(PRESET % f"'{word}'").fixes.presets["p"]["filter"]["must"][0]["match"]["value"]
    assert found == word


@pytest.mark.parametrize(("word", "value"), [("90", 90), ("-1", -1), ("0", 0), ("0.5", 0.5), ("true", True), ("1e5", "1e5")])
def test_plain_values_of_a_preset_stay(here, word, value):
    """Numbers in decimal digits, true and false, and every text."""
    assert load(PRESET % word).fixes.presets["p"]["filter"]["must"][0]["match"]["value"] == value


def test_a_number_that_yaml_reads_otherwise_is_no_setting(here):
    """Elsewhere in the file, too; words for true and false stay, and digits in groups."""
    assert "YAML reads 010 as 8" in str(refusal("limits: {max_quarantine: 010}"))
    assert "YAML reads 1:30 as 90" in str(refusal("limits: {settle: 1:30}"))
    assert load("rebuild: {gc: off, fuse: no}\nlint: {run_points: 1_000}").lint.run_points == 1000


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("ledger: {database: app}", "health.checks.ledger: a part of that name is there already"),
        ("pg: {}", "health.checks.pg needs either database or function"),
        ("pg: {database: app, function: 'a:b'}", "health.checks.pg needs either database or function"),
        ("redis: {function: ping}", 'health.checks.redis.function must be a function as "module:attribute"'),
        ("redis: {url: x}", "url"),
    ],
)
def test_a_further_part_of_the_readiness_is_one_thing(here, check, said):
    """A database or a function, under a name of its own."""
    assert said in refusal(f"health: {{checks: {{{check}}}}}").message
    found = load('health: {checks: {pg: {database: app}, redis: {function: "app.checks:redis"}}}').health.checks
    assert [(one.database, one.function) for one in found.values()] == [("app", None), (None, "app.checks:redis")]
