#!/bin/sh
# Brings SQL and Qdrant to the revisions of this image, then becomes the command that it was given.
#
#   docker-entrypoint.sh [COMMAND [ARGUMENT ...]]      without a command it migrates and ends: a job
#
# It runs in the folder of qmigrate.yaml and alembic.ini, and several at once are fine: one migrates, the others wait.
#
#   QMIGRATE_ON_START       upgrade (default): migrate, check, start.   check: start only if nothing is pending and
#                           nothing has drifted; writes nothing.   off: start.
#   QMIGRATE_WAIT           longest time to wait for PostgreSQL and Qdrant to answer; 60s
#   QMIGRATE_MAX_ESTIMATE   what is expected to take longer is not started here, but by a job of its own; 5m
#   QMIGRATE_LOCK_TIMEOUT   longest time to wait for another replica that migrates; 10m
#   QMIGRATE_LOG            text (default), or json: one object per line on stderr, for a collector
#   QMIGRATE_QDRANT_URL, QMIGRATE_QDRANT_GRPC_PORT, QMIGRATE_QDRANT_GRPC_HOST, QMIGRATE_QDRANT_API_KEY, QMIGRATE_LEDGER_URL, QMIGRATE_CONFIG, ALEMBIC_CONFIG: where things are
#
# Exit code, when the command is not reached: the one of the step that failed, which has printed why. 2 a setting is wrong,
# 3 pending or too long, 4 drift, 6 another replica took too long, 9 a store didn't answer in time, 11 built and held for
# `qmigrate cutover`, 143 stopped by SIGTERM; all of them are in docs/deploy.md.
set -eu

child=     # process id of the running step
forking=   # not empty while a step is being started
stopped=   # exit code that a signal has asked for

say() {
    if [ "${QMIGRATE_LOG:-}" = json ]; then
        printf '{"time": "%s", "event": "message", "logger": "docker-entrypoint", "message": "%s"}\n' \
            "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$(printf %s "$*" | tr '\n\t' '  ' | sed 's/[\\"]/\\&/g')" >&2
    else
        printf '%s docker-entrypoint: %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$*" >&2
    fi
}

# A step is asked to stop and waited for, so that it reaches a checkpoint. A second signal is passed on likewise:
# qmigrate stops at once then. Children of a script ignore SIGINT, so every signal becomes SIGTERM.
stop() {
    stopped=$1
    if [ -n "$child" ]; then
        kill -TERM "$child" 2>/dev/null || :
    elif [ -z "$forking" ]; then
        exit "$stopped"
    fi
}
trap 'stop 129' HUP
trap 'stop 130' INT
trap 'stop 143' TERM

# Run a step in the background, since a shell handles no signal while it waits for a step in the foreground.
step() {
    forking=yes
    "$@" &
    child=$!
    forking=
    [ -z "$stopped" ] || kill -TERM "$child" 2>/dev/null || :
    while :; do
        status=0
        wait "$child" || status=$?
        # A signal ends `wait` too; then the step is still there.
        if [ "$status" -le 128 ] || ! kill -0 "$child" 2>/dev/null; then
            break
        fi
    done
    child=
    if [ -n "$stopped" ]; then
        say "stopped by a signal; the next start resumes from here"
        exit "$stopped"
    fi
    if [ "$status" -ne 0 ]; then
        # What failed by itself has said so; what was killed, for want of memory perhaps, could not.
        [ "$status" -le 128 ] || [ "$status" -eq 255 ] || say "not started: \`$*\` ended with $status"
        exit "$status"
    fi
}

mode=${QMIGRATE_ON_START:-upgrade}
patience=${QMIGRATE_WAIT:-60s}
estimate=${QMIGRATE_MAX_ESTIMATE:-5m}
turn=${QMIGRATE_LOCK_TIMEOUT:-10m}

# One process does all steps (qmigrate wait, Alembic, qmigrate upgrade, qmigrate check) and says which one failed: what
# they load takes longer than what they do when there is nothing to do. Alembic answers with the exit codes of qmigrate
# there; by itself it answers 255 to everything. With -P no file of the current folder is taken for a library.
case $mode in
upgrade | check)
    step python -P -m qmigrate.cli.entrypoint "$mode" \
        "--wait=$patience" "--max-estimate=$estimate" "--lock-timeout=$turn"
    ;;
off) ;;
*)
    say "QMIGRATE_ON_START is '$mode'; it can be upgrade, check or off"
    exit 2
    ;;
esac

if [ $# -eq 0 ]; then
    if [ "$mode" = off ]; then
        say "nothing to do: QMIGRATE_ON_START is off, and there is no command"
        exit 2
    fi
    exit 0
fi
trap - HUP INT TERM
exec "$@"
