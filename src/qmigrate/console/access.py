"""Who calls, and what they may do: tokens, a cookie after a log-in, or the user that a trusted proxy names.

It keeps no secret in a form that could be read back, and compares in constant time. What a role may do, routes declare.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from fastapi import HTTPException, Request, Response

from qmigrate.errors import ConfigError
from qmigrate.settings.console import ANYONE, ROLES, ProxySettings, TokenSource
from qmigrate.settings.load import Settings

#: Browsers keep such a cookie to this host and to HTTPS; on loopback they accept it without.
COOKIE = "__Host-qmigrate"
#: Seconds that a log-in lasts.
LASTS = 12 * 3600
#: Failed log-ins of one address within :data:`_WINDOW` seconds, from which on it has to wait.
MOST_FAILURES, _WINDOW = 10, 60.0
#: Least characters of a token that is given: a short one can be guessed.
SHORTEST = 16
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sent a request.

    Attributes:
        user: recorded as the actor.
        role: one of :data:`~qmigrate.settings.console.ROLES`.
        csrf: what a form of this caller carries; None where no cookie has logged them in.
    """

    user: str
    role: str
    csrf: str | None = None

    def may(self, role: str) -> bool:
        """Whether the role is theirs, or a lesser one."""
        return ROLES.index(self.role) >= ROLES.index(role)


@dataclass(frozen=True, slots=True)
class _Grant:
    user: str
    role: str
    digest: bytes


@dataclass(slots=True)
class Access:
    """The callers that are known.

    Attributes:
        grants: by digests of the tokens.
        proxy: a proxy that names its users, or None.
        once: digests of tokens that log in once, by a link; used ones are gone.
        key: signs cookies; consoles with the same tokens, users and roles have the same, so that any of them knows a
            log-in.
    """

    grants: tuple[_Grant, ...]
    proxy: ProxySettings | None
    key: bytes
    once: dict[bytes, _Grant] = field(default_factory=dict)
    _failures: dict[str, deque[float]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, settings: Settings, environ: Mapping[str, str] | None = None) -> Access:
        """Read the tokens that the settings name.

        Raises:
            ConfigError: a token is missing, empty, too short, or given twice.
        """
        environ = os.environ if environ is None else environ
        found: dict[bytes, _Grant] = {}
        for source in settings.console.tokens:
            digest = _digest(_read(source, settings, environ))
            if digest in found:
                raise ConfigError(
                    f"{source.user} and {found[digest].user} have the same token: the records could not name who acts",
                    hint="give each a token of their own: openssl rand -hex 32",
                )
            found[digest] = _Grant(source.user, source.role, digest)
        grants = tuple(found.values())
        # With users and roles: a cookie of a role that was taken away fits no more.
        known = (f"{one.user}\0{one.role}\0".encode() + one.digest for one in grants)
        material = b"".join(sorted(known)) or secrets.token_bytes(32)
        return cls(grants, settings.console.proxy, hashlib.sha256(b"qmigrate cookie" + material).digest())

    @property
    def is_open(self) -> bool:
        """Whether nothing is configured by which a caller could be known."""
        return not self.grants and self.proxy is None

    def link_token(self, user: str, role: str) -> str:
        """A token that logs in once."""
        token = secrets.token_urlsafe(32)
        self.once[_digest(token)] = _Grant(user, role, _digest(token))
        return token

    def log_in(self, request: Request, token: str) -> tuple[Caller, str]:
        """The caller that a token stands for, and the value of the cookie.

        Raises:
            HTTPException: 401: it is none; 429: too many were none.
        """
        address = _address(request)
        self._check_rate(address)
        grant = self._grant(token)
        if grant is None:
            with self._lock:
                grant = self.once.pop(_digest(token), None)
        if grant is None:
            self._failed(address)
            raise HTTPException(401, "this token is not known, or was used already")
        until = int(time.time()) + LASTS
        return Caller(grant.user, grant.role), self._cookie(grant.user, grant.role, until)

    def caller(self, request: Request, *, csrf: str | None = None) -> Caller:
        """Who sent a request.

        Args:
            request: that was sent.
            csrf: the proof that a form of ours was filled in; None where a header has it.

        Raises:
            HTTPException: 401: no caller is known by it; 403: a cookie without its proof that the page is ours; 429.
        """
        bearer = request.headers.get("authorization", "")
        if bearer[:7].lower() == "bearer ":
            address = _address(request)
            self._check_rate(address)
            grant = self._grant(bearer[7:].strip())
            if grant is None:
                self._failed(address)
                raise HTTPException(401, "this token is not known", {"WWW-Authenticate": "Bearer"})
            return Caller(grant.user, grant.role)
        if self.proxy is not None and self._from_proxy(request):
            named = request.headers.get(self.proxy.header, "").strip()
            role = self.proxy.roles.get(named) or self.proxy.roles.get(ANYONE)
            if named and role is not None:
                return self._checked(request, Caller(named, role, self._csrf(named)), csrf)
        cookie = request.cookies.get(COOKIE)
        found = self._of_cookie(cookie) if cookie else None
        if found is None:
            raise HTTPException(401, "log in first, or send a token", {"WWW-Authenticate": "Bearer"})
        return self._checked(request, found, csrf)

    def needs(self, role: str, *, reading: str | None = None) -> Callable[[Request], Caller]:
        """A dependency of routes: a caller with at least this role.

        Args:
            reading: the role for requests that change nothing, where a lesser one is enough.
        """

        def allowed(request: Request) -> Caller:
            found = self.caller(request)
            needed = reading if reading is not None and request.method in _SAFE else role
            return allow(request, found, needed)

        return allowed

    def _grant(self, token: str) -> _Grant | None:
        """Every grant is compared, whichever fits."""
        digest, found = _digest(token), None
        for grant in self.grants:
            if hmac.compare_digest(grant.digest, digest):
                found = grant
        return found

    def _from_proxy(self, request: Request) -> bool:
        assert self.proxy is not None  # noqa: S101  asked by the caller
        try:
            address = ipaddress.ip_address(_address(request))
        except ValueError:
            return False
        return any(address in ipaddress.ip_network(one) for one in self.proxy.addresses)

    def _cookie(self, user: str, role: str, until: int) -> str:
        said = f"{quote(user, safe='')}.{role}.{until}"
        return f"{said}.{self._signed(f'cookie {said}')}"

    def _of_cookie(self, value: str) -> Caller | None:
        said, _, signature = value.rpartition(".")
        if not hmac.compare_digest(self._signed(f"cookie {said}").encode(), signature.encode()):
            return None
        user, role, until = said.rsplit(".", 2)
        if int(until) < time.time() or role not in ROLES:
            return None
        from urllib.parse import unquote

        return Caller(unquote(user), role, self._csrf(value))

    def _csrf(self, of: str) -> str:
        return self._signed(f"csrf {of}")

    def signed(self, purpose: str, value: str) -> str:
        """A signature that only consoles with the same tokens can make.

        Args:
            purpose: one word, so that what is signed for one purpose fits no other.
            value: what is signed.
        """
        return self._signed(f"{purpose} {value}")

    def is_signed(self, purpose: str, value: str, signature: str) -> bool:
        """Whether it is one of :meth:`signed`."""
        return hmac.compare_digest(self.signed(purpose, value).encode(), signature.encode())

    def _signed(self, said: str) -> str:
        """Load-bearing: what is signed says first what it is for, since users may name themselves as they like."""
        return hmac.new(self.key, said.encode(), hashlib.sha256).hexdigest()

    def _checked(self, request: Request, found: Caller, csrf: str | None) -> Caller:
        """A request that changes something comes from a page of ours, not from one that a browser happens to show.

        Raises:
            HTTPException: 403.
        """
        if request.method in _SAFE:
            return found
        given = request.headers.get("x-csrf-token", "") if csrf is None else csrf
        if not from_here(request) or not hmac.compare_digest((found.csrf or "").encode(), given.encode()):
            raise HTTPException(403, "the request is not from a page of this console: X-CSRF-Token is missing or wrong")
        return found

    def _check_rate(self, address: str) -> None:
        with self._lock:
            recent = self._failures.get(address)
            while recent and recent[0] < time.monotonic() - _WINDOW:
                recent.popleft()
            if recent is not None and not recent:
                del self._failures[address]
            if recent and len(recent) >= MOST_FAILURES:
                wait = max(1, int(recent[0] + _WINDOW - time.monotonic()) + 1)
                raise HTTPException(429, "too many wrong tokens: wait a minute", {"Retry-After": str(wait)})

    def _failed(self, address: str) -> None:
        with self._lock:
            self._failures.setdefault(address, deque(maxlen=MOST_FAILURES)).append(time.monotonic())


def allow(request: Request, found: Caller, role: str) -> Caller:
    """Keep a caller with the request, where they have at least this role.

    Raises:
        HTTPException: 403.
    """
    # Before the refusal: its page names who is logged in.
    request.state.caller = found
    if not found.may(role):
        raise HTTPException(403, f"this needs the role {role}, and {found.user} has {found.role}")
    return found


def called(request: Request) -> str:
    """Which endpoint a request is for, for the records."""
    return f"{request.method} {request.url.path}"


def acting(settings: Settings, request: Request) -> Settings:
    """The settings, for a caller who is known: what they do is recorded with their name."""
    caller: Caller = request.state.caller
    return settings.acting(caller.user, {"endpoint": called(request)})


def from_here(request: Request) -> bool:
    """Whether a browser says that a page of this console sent the request; other programs say nothing."""
    return request.headers.get("sec-fetch-site") in (None, "same-origin")


def set_cookie(response: Response, value: str) -> None:
    """Keep a log-in in the browser: for this host only, not for scripts, not from other pages."""
    response.set_cookie(COOKIE, value, max_age=LASTS, path="/", secure=True, httponly=True, samesite="strict")


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _address(request: Request) -> str:
    return request.client.host if request.client else ""


def _read(source: TokenSource, settings: Settings, environ: Mapping[str, str]) -> str:
    """A token.

    Raises:
        ConfigError: it can't be read, or is too short.
    """
    if source.env is not None:
        place, token = f"the environment variable {source.env}", environ.get(source.env)
    else:
        file = settings.folder / (source.file or "")
        place = str(file)
        try:
            token = file.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ConfigError(f"the token of {source.user} can't be read: {place}: {error}") from None
    token = (token or "").strip()
    if len(token) < SHORTEST:
        what = f"has fewer than {SHORTEST} characters" if token else "is missing"
        raise ConfigError(f"the token of {source.user} {what}: {place}", hint="make one: openssl rand -hex 32")
    return token
