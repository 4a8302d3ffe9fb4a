"""Settings of the HTTP API: what its endpoints stand for, and who may call them. It opens nothing, and holds no secret.

Tokens are read from the environment or from files when the API starts (`qmigrate.console.access`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from qmigrate.errors import ConfigError
from qmigrate.settings import values as read

#: What a caller may do, the least first; each may do what those before it may.
ROLES = ("viewer", "operator", "approver")
#: Endpoints of the contract that stand for a preset.
ENDPOINTS = ("directory", "asset", "session", "category", "orphans", "retrain")
#: Any user of a trusted proxy who is not named.
ANYONE = "*"


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where one token is, and who has it.

    Attributes:
        role: one of :data:`ROLES`.
        user: who is recorded as the actor; the role where nothing else is given.
        env: the environment variable that holds it, or None.
        file: the file that holds it, or None.
    """

    role: str
    user: str
    env: str | None = None
    file: Path | None = None


@dataclass(frozen=True, slots=True)
class ProxySettings:
    """A proxy that has logged its users in, and names them in a header.

    Attributes:
        header: its name.
        addresses: networks from which the header is believed, as ``10.0.0.0/8``.
        roles: user -> role; ``*`` for all other users.
    """

    header: str
    addresses: tuple[str, ...]
    roles: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DirectoryQuery:
    """What SQL has of each directory.

    Attributes:
        sql: a SELECT with a row per directory, with the columns ``session_count`` and ``last_trained_at``.
        key: its column with the directory.
        database: under ``databases`` of the settings.
    """

    sql: str
    key: str = "path"
    database: str = "app"


def tokens(value: Any, at: str) -> tuple[TokenSource, ...]:
    """``[{role: operator, user: kim, env: KIM_TOKEN}, …]``, or with ``file`` in place of ``env``."""
    found = []
    for place, entry in enumerate(read.listed(read.mapping)(value, at)):
        here = f"{at}[{place}]"
        read.check_keys(entry, ("role", "user", "env", "file"), here)
        role = read.choice(*ROLES)(entry.get("role"), f"{here}.role")
        if ("env" in entry) == ("file" in entry):
            raise ConfigError(f"{here} needs either env or file: where the token is", hint="env: KIM_TOKEN")
        env = read.variable_name(entry["env"], f"{here}.env") if "env" in entry else None
        file = read.path(entry["file"], f"{here}.file") if "file" in entry else None
        user = filled(entry.get("user", role), f"{here}.user")
        found.append(TokenSource(role, user, env, file))
    return tuple(found)


def proxy(value: Any, at: str) -> ProxySettings:
    """``{header: X-Forwarded-User, addresses: [10.0.0.0/8], roles: {kim: approver, "*": viewer}}``."""
    entry = read.mapping(value, at)
    read.check_keys(entry, ("header", "addresses", "roles"), at)
    networks = read.listed(network)(entry.get("addresses") or (), f"{at}.addresses")
    if not networks:
        raise ConfigError(
            f"{at}.addresses is missing: without it, every client could name a user in the header",
            hint="addresses: [127.0.0.1/32], those of the proxy",
        )
    roles = read.each(read.choice(*ROLES))(entry.get("roles") or {}, f"{at}.roles")
    return ProxySettings(filled(entry.get("header", "X-Forwarded-User"), f"{at}.header"), networks, roles)


def network(value: Any, at: str) -> str:
    """An address or a network, as ``10.0.0.0/8``."""
    said = read.text(value, at)
    try:
        return str(ipaddress.ip_network(said, strict=False))
    except ValueError:
        raise ConfigError(f"{at} must be an address or a network, not {said!r}", hint="10.0.0.0/8") from None


def directories(value: Any, at: str) -> DirectoryQuery:
    """``{sql: SELECT …, key: path, database: app}``."""
    entry = read.mapping(value, at)
    read.check_keys(entry, ("sql", "key", "database"), at)
    return DirectoryQuery(**{name: filled(entry.get(name), f"{at}.{name}") for name in {"sql", *entry}})


def presets(value: Any, at: str) -> dict[str, str]:
    """Endpoint -> name of a preset."""
    entry: dict[str, str] = read.each(filled)(value, at)
    read.check_keys(entry, ENDPOINTS, at)
    return entry


def function(value: Any, at: str) -> str:
    """A function, as ``module:attribute``."""
    said = filled(value, at)
    module, _, attribute = said.partition(":")
    if not module or not attribute:
        raise ConfigError(f'{at} must be a function as "module:attribute", not {said!r}')
    return said


def filled(value: Any, at: str) -> str:
    """A text that is not empty."""
    said = read.text(value, at)
    if not said:
        raise read.empty_key(at)
    return said


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """The HTTP API: what its endpoints stand for, and who may call them.

    Attributes:
        collection: the collection whose directories are shown and that can be reset; None where there is none.
        presets: endpoint (``directory``, ``asset``, ``session``, ``category``, ``orphans``, ``retrain``) -> the preset
            of ``fixes.presets`` that it stands for.
        paths: payload field with the path of a point.
        fields: payload fields that pages and answers may show of points; of others they show nothing.
        directories: what SQL has of each directory; None for nothing.
        sessions: which statement of the retraining marks the sessions: what the preset calls it, else its table.
        queue: function that queues a training: called with ``path_prefix``, ``category_id`` and ``reason``, it returns
            the id of the job; None where the preset has a queue of its own.
        delete_session: function that deletes the rows of a session: called with its id, it returns whether there was
            one; None where the application does so itself.
        has_session: function that says whether there is a session of an id: asked before its points are deleted.
        job_retries: how often a job is tried again whose worker died at it.
        keep_jobs: how long an ended job is kept before `gc` removes it.
        tokens: who may call it, by a token.
        proxy: a proxy that names its users; None for none.
    """

    collection: Annotated[str | None, filled] = None
    presets: Annotated[Mapping[str, str], presets] = field(default_factory=dict)
    paths: Annotated[str, filled] = "path"
    fields: Annotated[tuple[str, ...], read.listed(filled)] = ()
    directories: Annotated[DirectoryQuery | None, directories] = None
    sessions: Annotated[str, filled] = "training_sessions"
    queue: Annotated[str | None, function] = None
    delete_session: Annotated[str | None, function] = None
    has_session: Annotated[str | None, function] = None
    job_retries: Annotated[int, read.integer_between(0, 100)] = 3
    keep_jobs: Annotated[float, read.duration] = 30 * 86400.0
    tokens: Annotated[tuple[TokenSource, ...], tokens] = ()
    proxy: Annotated[ProxySettings | None, proxy] = None
