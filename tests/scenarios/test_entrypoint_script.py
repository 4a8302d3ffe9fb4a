"""docker-entrypoint.sh by itself: which steps, what ends it, and what signals do. The program that does them is a stand-in."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess

import pytest
from tests.scenarios.entrypoint import SCRIPT, Container

# It writes what it was called with. Its name is the mode: FAIL_<name> is its exit code, and HANG_<name> makes it wait
# until it gets the signal to stop, which it answers by finishing its checkpoint.
STEP = """#!/bin/sh
echo "$(basename "$0") $*" >> calls
for name; do
    case $name in upgrade|check) break ;; esac
done
eval "hang=\\${HANG_$name:-} fail=\\${FAIL_$name:-0}"
if [ -n "$hang" ]; then
    trap 'echo "$name at a checkpoint" >> calls; exit 143' TERM
    echo "$name runs" >> calls
    while :; do sleep 0.05; done
fi
exit "$fail"
"""

STEPS = "python -P -m qmigrate.cli.entrypoint {} --wait=60s --max-estimate=5m --lock-timeout=10m"


@pytest.fixture
def container(tmp_path):
    """A program of the test's own in place of python; the command prints its process id and arguments."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "python").write_text(STEP)
    (programs / "python").chmod(0o755)
    (programs / "serve").write_text('#!/bin/sh\necho "serve $$ $# $2" >> calls\n')
    (programs / "serve").chmod(0o755)
    made = Container(tmp_path, programs=programs)
    yield made
    made.close()


def calls(container: Container) -> list[str]:
    """What was called, in order."""
    found = container.folder / "calls"
    return found.read_text().splitlines() if found.exists() else []


@pytest.mark.parametrize(
    ("mode", "steps"),
    [
        (None, [STEPS.format("upgrade")]),
        ("upgrade", [STEPS.format("upgrade")]),
        ("check", [STEPS.format("check")]),
        ("off", []),
    ],
)
def test_the_mode_chooses_the_steps_and_then_the_command_takes_over_the_process(container, mode, steps):
    """One process does the steps of a mode; the command has the script's process id and its own arguments, spaces kept."""
    started = container.start("serve", "--name", "two words", **({"QMIGRATE_ON_START": mode} if mode else {}))
    assert started.ends() == 0, started.said
    assert calls(container) == [*steps, f"serve {started.process.pid} 2 two words"]


@pytest.mark.parametrize(
    ("variables", "command", "code", "steps", "says"),
    [
        ({"QMIGRATE_ON_START": "Upgrade"}, ["serve"], 2, 0, "it can be upgrade, check or off"),
        ({"QMIGRATE_ON_START": "off"}, [], 2, 0, "there is no command"),
        ({}, [], 0, 1, ""),
        ({"FAIL_upgrade": "3"}, ["serve"], 3, 1, ""),
        ({"FAIL_upgrade": "255"}, ["serve"], 255, 1, ""),
        ({"FAIL_check": "4", "QMIGRATE_ON_START": "check"}, ["serve"], 4, 1, ""),
        # What was killed said nothing; no step stopped by a signal of its own is taken for one that was asked for.
        ({"FAIL_upgrade": "137"}, ["serve"], 137, 1, "ended with 137"),
        ({"FAIL_check": "143", "QMIGRATE_ON_START": "check"}, ["serve"], 143, 1, "ended with 143"),
    ],
)
def test_what_fails_ends_it_with_that_code_and_without_the_command(container, variables, command, code, steps, says):
    """The code of the steps is the script's; a job needs no command; off needs one."""
    ended, said = container.run(*command, **variables)
    assert ended == code, said
    made = calls(container)
    assert len(made) == steps
    assert not any(call.startswith("serve") for call in made)
    assert says in said
    # What failed by itself has said so, and it is not said twice.
    assert ("docker-entrypoint:" in said) == bool(says)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)], ids=["term", "int", "hup"]
)
def test_a_signal_stops_the_step_and_waits_for_its_checkpoint(container, number, code):
    """The process gets one signal, reaches its checkpoint before the script ends, and nothing is started afterwards."""
    started = container.start("serve", HANG_upgrade="yes")
    started.wait_for(lambda: "upgrade runs" in calls(container))
    os.kill(started.process.pid, number)
    assert started.ends() == code
    assert calls(container)[-1] == "upgrade at a checkpoint"
    assert calls(container)[:-1] == [STEPS.format("upgrade"), "upgrade runs"]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="no shellcheck on PATH")
def test_shellcheck_has_nothing_to_say():
    """The script is POSIX sh without a finding."""
    found = subprocess.run(["shellcheck", "--shell=sh", SCRIPT], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout
