"""What action.yml runs: plan and lint of a pull request, as one comment that is updated. Python's own library only.

    pull_request.py report FILE    run qmigrate, write the comment to FILE; its exit code is that of qmigrate
    pull_request.py post FILE      make the comment of FILE, or update the one that is there

They are two commands so that the first, which imports the revisions of the pull request, has no token. Settings come
from the environment, see action.yml. Nothing of what qmigrate prints leaves its code block.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

#: GitHub takes 65,536 characters; what is left is for words around the two blocks.
LONGEST_BLOCK = 28_000
#: Variables that the revisions of a pull request must not see: tokens, and the files that steer later steps.
KEPT_BACK = re.compile(r"(^|_)TOKEN($|_)|^ACTIONS?_|^INPUT_|^GITHUB_(ENV|PATH|OUTPUT|STATE|STEP_SUMMARY)$")
#: Names of variables whose value is a secret; so is an address with a password.
SECRETS = re.compile(r"TOKEN|KEY|SECRET|PASSWORD")
#: What of an output is passed on to the workflow; another command of it is not.
ANNOTATION = re.compile("::(error|warning|notice) ")
#: Shorter values are words.
SHORTEST_SECRET = 6
#: Tries of one request, and seconds before the second.
TRIES, PAUSE = 4, 1.0
#: Most pages of comments, of a hundred each.
PAGES = 50


class CommentError(Exception):
    """GitHub didn't take it. `allowed` is False where the token has no right to."""

    def __init__(self, message: str, *, allowed: bool = True) -> None:
        super().__init__(message)
        self.allowed = allowed


def main(arguments: list[str], environ: Mapping[str, str]) -> int:
    """Run one of the two commands."""
    match arguments:
        case ["report", file]:
            return report(Path(file), environ)
        case ["post", file]:
            return post(Path(file), environ)
    print(__doc__, file=sys.stderr)
    return 2


def report(file: Path, environ: Mapping[str, str]) -> int:
    """Run the lint, and the plan where a server is named; write the comment.

    Returns:
        The first exit code of them that is not 0.
    """
    command = shlex.split(environ.get("ACTION_COMMAND") or "qmigrate")
    given = without_tokens(environ)
    folder = environ.get("ACTION_FOLDER") or "."
    # As annotations of the lines, besides the comment.
    annotated = run([*command, "check", "--offline", "--format", "github"], folder, given)
    print("\n".join(line for line in annotated[1].splitlines() if ANNOTATION.match(line)))
    lint = run([*command, "check", "--offline"], folder, given)
    plan = run([*command, "plan"], folder, given) if "QMIGRATE_QDRANT_URL" in given else None
    text = comment(environ, lint, plan)
    file.write_text(text, encoding="utf-8")
    summary = environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as out:
            out.write(text)
    return lint[0] or (plan[0] if plan else 0)


def without_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """What qmigrate gets: no token, and no variable that is empty because a secret isn't there (a fork has none)."""
    kept = {name: value for name, value in environ.items() if value or not name.startswith("QMIGRATE_")}
    return {**{name: kept[name] for name in kept if not KEPT_BACK.search(name)}, "NO_COLOR": "1", "COLUMNS": "120"}


def run(command: list[str], folder: str, environ: Mapping[str, str]) -> tuple[int, str]:
    """Exit code, and everything that was printed."""
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        return 127, f"{command[0]} can't be run in {folder}: {error.strerror}\n"
    return done.returncode, done.stdout.decode("utf-8", "replace")


def comment(environ: Mapping[str, str], lint: tuple[int, str], plan: tuple[int, str] | None) -> str:
    """The comment; its first line is the mark by which it is found again."""
    commit = re.sub("[^0-9a-f]", "", environ.get("ACTION_HEAD") or environ.get("GITHUB_SHA", ""))[:12]
    parts = [mark(environ), "### qmigrate", "", *section("Lint", lint, environ)]
    if plan is None:
        parts += ["No plan: this run names no Qdrant (`QMIGRATE_QDRANT_URL`).", ""]
    else:
        parts += section("Plan", plan, environ)
    run_id = environ.get("GITHUB_RUN_ID", "")
    place = f"{environ.get('GITHUB_SERVER_URL', '')}/{environ.get('GITHUB_REPOSITORY', '')}/actions/runs/{run_id}"
    about = [f"commit {commit}"] if commit else []
    about += [f"[log]({place})"] if run_id.isdigit() else []
    parts.append(f"<sub>{', '.join(about)}</sub>")
    return "\n".join(parts) + "\n"


def mark(environ: Mapping[str, str]) -> str:
    """Names the project where a repository has several; as a comment of HTML it isn't shown."""
    key = re.sub(r"[^A-Za-z0-9_./-]|--", "_", environ.get("ACTION_COMMENT") or "default")
    return f"<!-- qmigrate pull request comment: {key} -->"


def section(title: str, ended: tuple[int, str], environ: Mapping[str, str]) -> Iterator[str]:
    """A heading with the exit code, and the output."""
    code, text = ended
    yield f"**{title}**: {'passed' if code == 0 else f'exit code {code}'}"
    yield ""
    yield block(masked(text, environ))
    yield ""


def masked(text: str, environ: Mapping[str, str]) -> str:
    """The text without values of variables that may be secrets."""
    values = {value for name, value in environ.items() if SECRETS.search(name)}
    for value in environ.values():
        if "://" in value and "@" in value:
            values |= {value, urlsplit(value).password or "", unquote(urlsplit(value).password or "")}
    values = {value for value in values if len(value) >= SHORTEST_SECRET}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "***")
    return text


def block(text: str) -> str:
    """A code block that ends where the text does: its fence is longer than any in it, and no character steers."""
    text = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text).replace("\r\n", "\n").replace("\r", "\n")
    text = "".join(one if one in "\n\t" or one.isprintable() else "�" for one in text).strip("\n")
    if len(text) > LONGEST_BLOCK:
        kept = text[:LONGEST_BLOCK].rpartition("\n")[0] or text[:LONGEST_BLOCK]
        text = f"{kept}\n… {text.count(chr(10)) - kept.count(chr(10))} more lines: see the log"
    longest = max((len(one) for one in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text or '(nothing)'}\n{fence}"


def post(file: Path, environ: Mapping[str, str]) -> int:
    """Make the comment, or update it; a token without the right to is a warning, since forks have no other."""
    try:
        made = send(file.read_text(encoding="utf-8"), environ)
    except CommentError as error:
        level = "error" if error.allowed else "warning"
        print(f"::{level} title=qmigrate::{escaped(f'the comment was not written: {error}')}")
        return 1 if error.allowed else 0
    print(made)
    return 0


def escaped(text: str) -> str:
    """As a command of a workflow takes it, in one line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def send(text: str, environ: Mapping[str, str]) -> str:
    """What was done, for the log.

    Raises:
        CommentError: it was not.
    """
    number = pull_request(environ)
    if number is None:
        return "This run belongs to no pull request: the summary has plan and lint, and there is no comment."
    comments = f"/repos/{environ['GITHUB_REPOSITORY']}/issues/{number}/comments"
    for found in pages(comments, environ):
        # Any user can write the mark; only what this token's user wrote is ours to change.
        own = (found.get("user") or {}).get("login") == (environ.get("ACTION_AUTHOR") or "github-actions[bot]")
        if own and (found.get("body") or "").startswith(mark(environ)):
            place = f"/repos/{environ['GITHUB_REPOSITORY']}/issues/comments/{int(found['id'])}"
            made = request("PATCH", place, environ, text)
            return f"Updated {made['html_url']}"
    return f"Created {request('POST', comments, environ, text)['html_url']}"


def pull_request(environ: Mapping[str, str]) -> int | None:
    """The number of the pull request that the run is about."""
    try:
        event = json.loads(Path(environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
        return int(event["pull_request"]["number"])
    except (KeyError, TypeError, ValueError, OSError):
        return None


def pages(path: str, environ: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Every comment, the oldest first."""
    for page in range(1, PAGES + 1):
        found = request("GET", f"{path}?per_page=100&page={page}", environ)
        yield from found
        if len(found) < 100:
            return


def request(method: str, path: str, environ: Mapping[str, str], text: str | None = None) -> Any:
    """One request; repeated where GitHub is overloaded.

    Raises:
        CommentError: naming what GitHub answered, and what to do.
    """
    asked = urllib.request.Request(
        environ.get("GITHUB_API_URL", "https://api.github.com") + path,
        method=method,
        data=None if text is None else json.dumps({"body": text}).encode(),
        headers={
            "Authorization": f"Bearer {environ.get('GITHUB_TOKEN', '')}",
            "Accept": "application/vnd.github+json",
            "Content-Type": "application/json",
            "User-Agent": "qmigrate",
        },
    )
    for attempt in range(1, TRIES + 1):
        try:
            with urllib.request.urlopen(asked, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            # A POST that was answered with an error of the server may still have made the comment.
            if (error.code == 429 or (error.code >= 500 and method != "POST")) and attempt < TRIES:
                time.sleep(PAUSE * 2 ** (attempt - 1))
                continue
            raise refused(method, error) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise CommentError(f"{method} {asked.full_url.partition('?')[0]}: {reason}") from None
    raise AssertionError


def refused(method: str, error: urllib.error.HTTPError) -> CommentError:
    """What GitHub's answer means here."""
    try:
        said = str(json.load(error).get("message", ""))
    except (ValueError, AttributeError, OSError):
        said = ""
    path = error.url.partition("?")[0]
    reason = f"GitHub answered {error.code} to {method} {path}: {said or error.reason}"
    if error.code in (401, 403, 404):
        reason += "; the job needs `permissions: {contents: read, pull-requests: write}`, which a fork never has"
        return CommentError(reason, allowed=False)
    return CommentError(reason)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
