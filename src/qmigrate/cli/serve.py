"""serve: the HTTP API, as a process of its own."""

from __future__ import annotations

import threading

import click

from qmigrate.cli.shell import Shell, with_shell


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Where to listen.")
@click.option("--port", type=click.IntRange(0, 65535), default=6380, show_default=True, help="0 for any free one.")
@click.option("--no-worker", is_flag=True, help="Leave jobs to qmigrate worker.")
@with_shell
def serve(shell: Shell, host: str, port: int, no_worker: bool) -> int:
    """Serve the HTTP API: vectors, jobs, collections, plan, history, deletions, health, metrics.

    Without tokens in the settings it listens only on this machine, and prints a link that logs in once.
    """
    from qmigrate.commands.jobs import work
    from qmigrate.console import create_app
    from qmigrate.console.access import Access
    from qmigrate.console.server import check_address, listen, run, shown

    settings = shell.settings()
    access = Access.of(settings)
    check_address(host, access)
    app = create_app(settings, access=access)
    with listen(host, port) as socket:
        at = shown(socket)
        shell.console(stderr=True).print(f"Listening on {at}. Stop it with Ctrl-C.")
        if access.is_open:
            token = access.link_token(settings.actor or "operator", "approver")
            # Exactly as it is: it is copied into a browser.
            shell.document(f"{at}/login?token={token}")
        over = threading.Event()
        helper = threading.Thread(target=work, args=(settings,), kwargs={"stop": over}, name="worker", daemon=True)
        if not no_worker:
            helper.start()
        try:
            run(app, socket)
        finally:
            # A job that is worked on is free again once its lease has ended, and is continued by another worker.
            over.set()
    return 0
