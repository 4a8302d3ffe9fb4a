"""action.yml and its script, against a server that answers as GitHub does: one comment, and nothing leaves its block."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = ROOT / "scripts" / "pull_request.py"
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
BOT, TOKEN = "github-actions[bot]", "ghs_abcdefghijkl"
#: A program in the place of qmigrate: it answers from files, and keeps what it was given.
STAND_IN = """
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
name = "annotations" if "github" in sys.argv else sys.argv[1]
with (here / "calls").open("a") as out:
    out.write(json.dumps([sys.argv[1:], dict(os.environ), os.getcwd()]) + "\\n")
answer = json.loads((here / "answers.json").read_text()).get(name, [0, ""])
sys.stdout.write(answer[1])
sys.exit(answer[0])
"""


class GitHub(ThreadingHTTPServer):
    """Comments of one issue, kept as GitHub keeps them."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.comments: list[dict] = []
        self.requests: list[tuple[str, str]] = []
        self.broken: list[tuple[int, str]] = []

    def add(self, login: str, body: str) -> dict:
        """A comment of a user."""
        number = 1000 + len(self.comments)
        made = {"id": number, "user": {"login": login}, "body": body, "html_url": f"https://github.example/c/{number}"}
        self.comments.append(made)
        return made


class Handler(BaseHTTPRequestHandler):
    """Lists, makes and changes comments; every request needs the token."""

    server: GitHub

    def answer(self, code: int, value: object) -> None:
        content = json.dumps(value).encode() if not isinstance(value, bytes) else value
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def asked(self) -> bool:
        """Whether the request may go on."""
        self.server.requests.append((self.command, self.path))
        assert self.headers["Authorization"] == f"Bearer {TOKEN}"
        if self.server.broken:
            code, message = self.server.broken.pop(0)
            self.rest()
            self.answer(code, {"message": message} if message else b"<html>")
            return False
        return True

    def rest(self) -> dict:
        length = int(self.headers.get("Content-Length") or 0)
        return json.loads(self.rfile.read(length)) if length else {}

    def do_GET(self) -> None:
        if self.asked():
            place = urlsplit(self.path)
            assert place.path == "/repos/octo/shop/issues/7/comments"
            page = int(parse_qs(place.query)["page"][0])
            self.answer(200, self.server.comments[(page - 1) * 100 : page * 100])

    def do_POST(self) -> None:
        if self.asked():
            self.answer(201, self.server.add(BOT, self.rest()["body"]))

    def do_PATCH(self) -> None:
        if self.asked():
            number = int(self.path.rpartition("/")[2])
            (found,) = [one for one in self.server.comments if one["id"] == number]
            found["body"] = self.rest()["body"]
            self.answer(200, found)

    def log_message(self, *_args) -> None:
        """Nothing."""


@pytest.fixture
def github() -> Iterator[GitHub]:
    """A server on a free port."""
    made = GitHub()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


@pytest.fixture
def run(github, tmp_path):
    """Runs a command of the script as the action does."""
    (tmp_path / "event.json").write_text(json.dumps({"pull_request": {"number": 7}}))
    (tmp_path / "qmigrate.py").write_text(STAND_IN)
    (tmp_path / "project").mkdir()
    report = tmp_path / "report.md"
    common = {
        "PATH": os.environ["PATH"],
        "GITHUB_API_URL": f"http://127.0.0.1:{github.server_port}",
        "GITHUB_REPOSITORY": "octo/shop",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
        "GITHUB_SERVER_URL": "https://github.example",
        "GITHUB_RUN_ID": "4711",
        "ACTION_HEAD": "0123456789abcdef0123456789abcdef01234567",
        "ACTION_COMMAND": f"'{sys.executable}' '{tmp_path / 'qmigrate.py'}'",
        "ACTION_FOLDER": str(tmp_path / "project"),
    }

    def call(command: str, answers: dict | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "answers.json").write_text(json.dumps(answers or {}))
        words = [sys.executable, "-W", "error", str(SCRIPT), command, str(report)]
        given = {**common, **({"GITHUB_TOKEN": TOKEN} if command == "post" else {}), **variables}
        return subprocess.run(words, env=given, capture_output=True, text=True, timeout=60, check=False)

    call.report, call.folder, call.common = report, tmp_path, common
    return call


def calls(run) -> list[tuple[list[str], dict[str, str], str]]:
    """What the stand-in was called with."""
    return [tuple(json.loads(line)) for line in (run.folder / "calls").read_text().splitlines()]


def test_a_comment_is_made_once_and_then_updated(run, github):
    """The second push changes the same comment; comments of users stay, also where one has copied the mark."""
    people = github.add("kim", "first!")
    assert run("report", {"check": [0, "No findings."], "plan": [0, "docs  0002"]}, QMIGRATE_QDRANT_URL="http://q").returncode == 0
    first = run.report.read_text()
    forged = github.add("mallory", first)
    done = run("post")
    assert (done.returncode, done.stdout) == (0, "Created https://github.example/c/1002\n"), done.stderr
    assert run("report", {"check": [8, "1 finding."]}).returncode == 8
    done = run("post")
    assert (done.returncode, done.stdout) == (0, "Updated https://github.example/c/1002\n"), done.stderr
    assert [one["body"] for one in github.comments] == ["first!", first, run.report.read_text()]
    assert (people["user"]["login"], forged["user"]["login"]) == ("kim", "mallory")
    assert "No plan: this run names no Qdrant" in github.comments[-1]["body"]
    assert [one for one, _ in github.requests] == ["GET", "POST", "GET", "PATCH"]


def test_an_own_comment_is_found_behind_hundreds(run, github):
    """Every page is read until it is found."""
    run("report")
    for number in range(250):
        github.add("kim", f"comment {number}")
    github.add(BOT, run.report.read_text() + "old")
    assert run("post").stdout.startswith("Updated")
    assert [path for _, path in github.requests][2].endswith("page=3")
    assert len(github.comments) == 251


def test_each_project_of_a_repository_has_its_own_comment(run, github):
    """By its name, which can't end the mark."""
    for name in ("shop", "a --> b"):
        assert run("report", ACTION_COMMENT=name).returncode == 0
        assert run("post", ACTION_COMMENT=name).stdout.startswith("Created")
    first, second = (one["body"].splitlines()[0] for one in github.comments)
    assert first == "<!-- qmigrate pull request comment: shop -->"
    assert second == "<!-- qmigrate pull request comment: a____b -->"
    assert run("post", ACTION_COMMENT="a --> b").stdout.startswith("Updated")


@pytest.mark.parametrize(
    "hostile",
    [
        "```\n<script>alert(1)</script>\n@every user ![x](http://e/x.png)",
        "a\n````\n# heading\n`````text\n",
        "`" * 200,
        "\x1b[31mred\x1b[0m \x07 \x00 ‮ \x9b2J\r\nnext\rover",
        "",
        "<!-- qmigrate pull request comment: default -->",
    ],
    ids=["fence", "longer fences", "very long fence", "control characters", "nothing", "mark"],
)
def test_what_is_printed_stays_in_its_block(run, hostile):
    """The fence is longer than any in the text, and stands alone on its line; control characters are gone."""
    run("report", {"check": [0, hostile], "plan": [0, hostile]}, QMIGRATE_QDRANT_URL="http://q")
    lines = run.report.read_text().splitlines()
    openings = [number for number, line in enumerate(lines) if re.fullmatch(r"`{3,}text", line)]
    openings = [openings[0], next(one for one in openings if one > lines.index("**Plan**: passed"))]
    for start in openings:
        fence = lines[start].removesuffix("text")
        end = next(number for number in range(start + 1, len(lines)) if lines[number] == fence)
        inside = "\n".join(lines[start + 1 : end])
        assert all(len(ticks) < len(fence) for ticks in re.findall("`+", inside))
        assert all(one == "\n" or one.isprintable() for one in inside)
        assert lines[end + 1] == ""
        assert lines[end + 2] == "**Plan**: passed" or lines[end + 2].startswith("<sub>commit 0123456789ab, [log](")
    assert lines[0] == "<!-- qmigrate pull request comment: default -->"


def test_a_long_plan_is_cut_at_a_line(run, github):
    """GitHub takes 65,536 characters: whatever is printed, the comment has fewer, and says what is missing."""
    text = "".join(f"line {number} {'x' * 60}\n" for number in range(5000))
    run("report", {"check": [0, "y" * 200_000], "plan": [0, text]}, QMIGRATE_QDRANT_URL="http://q")
    body = run.report.read_text()
    assert len(body) < 65_536
    assert re.search(r"… \d{4} more lines: see the log\n```", body)
    assert run("post").returncode == 0


SECRETS = {
    "QMIGRATE_QDRANT_URL": "http://q",
    "QMIGRATE_QDRANT_API_KEY": "key-0123456789",
    "QMIGRATE_LEDGER_URL": "postgresql://app:p%40ssword-1@db/app",
    "SHOP_SECRET": "hush-hush-hush",
}


def test_no_secret_gets_into_the_comment_or_to_the_revisions(run, github):
    """Values of secrets are masked, also a password that is written in another way; qmigrate gets no token."""
    said = " ".join(["key-0123456789 p%40ssword-1 p@ssword-1 hush-hush-hush", SECRETS["QMIGRATE_LEDGER_URL"], "http://q docs"])
    more = {"GITHUB_TOKEN": TOKEN, "ACTIONS_ID_TOKEN_REQUEST_TOKEN": "x", "ACTIONS_RUNTIME_TOKEN": "y", "GITHUB_OUTPUT": "/o"}
    summary = run.folder / "summary.md"
    done = run("report", {"check": [0, said], "plan": [0, said]}, **SECRETS, **more, GITHUB_STEP_SUMMARY=str(summary))
    body = run.report.read_text()
    for text in (body, summary.read_text(), done.stdout):
        assert not any(value in text for name, value in SECRETS.items() if name != "QMIGRATE_QDRANT_URL")
        assert "ssword" not in text
    assert body.count("*** *** *** *** *** http://q docs") == 2
    for words, environ, folder in calls(run):
        assert folder == str(run.folder / "project")
        assert {name: environ[name] for name in SECRETS} == SECRETS
        assert not {name for name in environ if "TOKEN" in name or name.startswith("ACTION")} | {"GITHUB_OUTPUT"} & set(environ)
        assert words[0] in ("check", "plan")


def test_a_fork_without_secrets_gets_the_lint(run):
    """Variables that are empty, because a fork has no secrets, are not there for qmigrate."""
    run("report", QMIGRATE_QDRANT_URL="", QMIGRATE_LEDGER_URL="", QMIGRATE_QDRANT_API_KEY="")
    assert [words for words, *_ in calls(run)] == [["check", "--offline", "--format", "github"], ["check", "--offline"]]
    assert not any(name.startswith("QMIGRATE_") for _, environ, _ in calls(run) for name in environ)


def test_findings_are_annotations_and_nothing_else_steers_the_workflow(run):
    """Lines that a revision prints don't get through as commands of the workflow."""
    lines = "::warning file=a.py,line=3,title=QM101::drop\n::add-mask::a\n::set-output name=x::y\nhello\n::error ::broken\n"
    done = run("report", {"annotations": [8, lines]})
    assert done.stdout == "::warning file=a.py,line=3,title=QM101::drop\n::error ::broken\n"


@pytest.mark.parametrize(
    ("answers", "code"),
    [
        ({"check": [0, ""], "plan": [0, ""]}, 0),
        ({"check": [8, "a rule"], "plan": [0, ""]}, 8),
        ({"check": [0, ""], "plan": [9, "unreachable"]}, 9),
        ({"check": [8, ""], "plan": [9, ""]}, 8),
    ],
)
def test_the_exit_code_is_that_of_lint_or_plan(run, answers, code):
    """The heading of each has its code."""
    assert run("report", answers, QMIGRATE_QDRANT_URL="http://q").returncode == code
    for title, name in (("Lint", "check"), ("Plan", "plan")):
        said = answers[name][0]
        assert f"**{title}**: {f'exit code {said}' if said else 'passed'}\n" in run.report.read_text()


def test_a_program_that_is_missing_is_reported(run):
    """The comment says what could not be run."""
    done = run("report", ACTION_COMMAND="/no/such/qmigrate")
    assert done.returncode == 127
    assert "/no/such/qmigrate can't be run" in run.report.read_text()


NO_RIGHT = (
    "::warning title=qmigrate::the comment was not written: GitHub answered 403 to GET "
    "http://127.0.0.1:PORT/repos/octo/shop/issues/7/comments: Resource not accessible by integration; "
    "the job needs `permissions: {contents: read, pull-requests: write}`, which a fork never has\n"
)


@pytest.mark.parametrize(
    ("broken", "code", "said", "waits"),
    [
        ([(403, "Resource not accessible by integration")], 0, NO_RIGHT, []),
        ([(404, "Not Found")], 0, "::warning title=", []),
        ([(422, "Validation Failed")], 1, "::error title=qmigrate::the comment was not written: GitHub answered 422 to GET ", []),
        ([(502, ""), (500, "")], 0, "Created ", [1.0, 2.0]),
        ([(503, "")] * 4, 1, "::error title=qmigrate::the comment was not written: GitHub answered 503 to GET ", [1.0, 2.0, 4.0]),
        ([(429, "slow down")], 0, "Created ", [1.0]),
    ],
    ids=["no right", "not found", "refused", "overloaded twice", "overloaded", "rate limited"],
)
def test_what_github_refuses_is_said_in_one_line(run, github, broken, code, said, waits, monkeypatch, capsys):
    """A right that is missing is a warning, since the run of a fork has none; everything else is an error."""
    run("report")
    github.broken = list(broken)
    module = runpy.run_path(str(SCRIPT))
    waited: list[float] = []
    monkeypatch.setattr(module["time"], "sleep", waited.append)
    assert module["post"](run.report, {**run.common, "GITHUB_TOKEN": TOKEN}) == code
    printed = capsys.readouterr()
    assert printed.out.startswith(said.replace("PORT", str(github.server_port)))
    assert (printed.out.count("\n"), printed.err) == (1, "")
    assert len(github.comments) == printed.out.startswith("Created ")
    assert waited == waits


def test_a_comment_is_never_made_twice(run, github):
    """A POST that the server answered with an error may have made it: it is not sent again."""
    run("report")
    plain = Handler.do_POST

    def failing(self):
        self.server.requests.append((self.command, self.path))
        self.server.add(BOT, self.rest()["body"])
        self.answer(502, {"message": "bad gateway"})

    Handler.do_POST = failing
    try:
        assert run("post").returncode == 1
    finally:
        Handler.do_POST = plain
    assert run("post").stdout.startswith("Updated")
    assert len(github.comments) == 1


def test_without_github_the_address_and_the_reason_are_named(run, github):
    """A server that isn't there is an error with its address."""
    run("report")
    done = run("post", GITHUB_API_URL="http://127.0.0.1:1")
    assert done.returncode == 1
    assert re.search(r"::error .*GET http://127\.0\.0\.1:1/repos/octo/shop/issues/7/comments: .*refused", done.stdout)


@pytest.mark.parametrize("event", ["{}", "[]", "not json", '{"pull_request": null}'])
def test_a_run_of_no_pull_request_writes_no_comment(run, github, event):
    """A push has its plan in the summary alone."""
    run("report")
    (run.folder / "event.json").write_text(event)
    done = run("post")
    assert (done.returncode, github.requests) == (0, [])
    assert "belongs to no pull request" in done.stdout


def test_the_action_gives_the_token_to_its_last_step_alone():
    """The step that runs the revisions has none; no input gets into a script but by its environment."""
    steps = ACTION["runs"]["steps"]
    assert ACTION["runs"]["using"] == "composite"
    with_token = [step for step in steps if "token" in str(step.get("env", {})).lower()]
    assert [step["run"] for step in with_token] == ['python3 "$HERE/scripts/pull_request.py" post "$REPORT"']
    for step in steps:
        assert "${{" not in step.get("run", "")
        assert ("shell" in step) == ("run" in step)
    used = set(re.findall(r"inputs\.([a-z-]+)", (ROOT / "action.yml").read_text()))
    assert used == set(ACTION["inputs"])
    for path in re.findall(r'"\$HERE/([\w./]+)"', (ROOT / "action.yml").read_text()):
        assert (ROOT / path).is_file(), path


def test_the_guide_lists_the_inputs():
    """docs/ci.md has each with its default, and no other."""
    text = (ROOT / "docs" / "ci.md").read_text()
    table = text[text.index("| input | default") :].split("\n\n")[0].splitlines()[2:]
    listed = {one: row.split("|")[2].strip().strip("`") for row in table for one in re.findall(r"`([a-z-]+)`", row.split("|")[1])}
    assert listed.pop("token") == "that of the job"
    assert listed == {name: one["default"] for name, one in ACTION["inputs"].items() if name != "token"}
    given = yaml.safe_load(next(one for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if "OWNER/qmigrate@" in one))
    assert set(given["jobs"]["plan"]["steps"][1]["with"]) <= set(ACTION["inputs"])
    assert given["permissions"] == {"contents": "read", "pull-requests": "write"}


def test_the_variables_of_the_action_are_those_of_the_script():
    """What the steps set is read, and what is read is set by a step or by GitHub."""
    read = set(re.findall(r'"(ACTION_[A-Z]+)"', SCRIPT.read_text()))
    given = {name for step in ACTION["runs"]["steps"] for name in step.get("env", {}) if name.startswith("ACTION_")}
    assert given == read
