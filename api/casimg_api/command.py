"""`casimg serve`: the command that starts the HTTP service. Found by the command line as an entry point."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from casimg.cli.app import Settings, command, loading, main_group
from casimg.errors import ConfigError

if TYPE_CHECKING:
    from wsgiref.types import WSGIApplication

    from casimg_api.config import Config


@command(
    main_group,
    example="casimg serve /srv/images\ncasimg serve --config /etc/casimg/casimg.toml\n"
    "OS_AUTH_TYPE=none OS_ENDPOINT=http://127.0.0.1:9292 openstack image list",
)
@click.argument("repository", required=False, metavar="[REPO]")
@click.option("--config", "config_path", metavar="FILE", help="Configuration of the server; --sample shows one.")
@click.option("--host", metavar="ADDRESS", help="Address to listen on.")
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="Port to listen on.")
@click.option("--workers", type=click.IntRange(1, 1024), metavar="COUNT", help="Processes.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="COUNT", help="Threads of each process.")
@click.option(
    "--sample",
    type=click.Choice(["casimg", "gunicorn", "uwsgi", "mod_wsgi"]),
    is_flag=False,
    flag_value="casimg",
    help="Print the configuration with every key and its default, or that of another WSGI server, and exit.",
)
def serve(
    settings: Settings,
    repository: str | None,
    config_path: str | None,
    host: str | None,
    port: int | None,
    workers: int | None,
    threads: int | None,
    sample: str | None,
) -> None:
    """Serve the images of REPO by the OpenStack Image API v2.

    Without a configuration it listens on loopback, asks for no token, and whoever reaches it may do everything.
    """
    with loading():
        try:
            from casimg_api.app import make_app
            from casimg_api.config import SAMPLES, Config
            from casimg_api.logs import start_logging
            from casimg_api.server import serve as serve_app
        except ImportError as error:
            raise click.ClickException(
                f"the HTTP service is not installed ({error}); pip install 'casimg[api]'"
            ) from None

    if sample:
        click.echo(SAMPLES[sample].read_text(), nl=False)
        return
    config = Config.load(Path(config_path)) if config_path else Config()
    given = {"host": host, "port": port, "workers": workers, "threads": threads}
    server = replace(config.server, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    config = replace(config, server=server)
    path = repository or config.repository.path or settings.repo_path()
    check_exposure(config)
    import casimg

    def make() -> "WSGIApplication":
        return make_app(casimg.open(path), config, process_count=server.workers)

    start_logging(config)
    with casimg.open(path) as opened:  # what is wrong is told here, in one line, not by every worker
        make_app(opened, config, is_serving=False)
    click.echo(f"serving {path} at http://{server.host}:{server.port}/v2, authentication: {_who(config)}", err=True)
    serve_app(make, server.host, server.port, server.workers, server.threads, server.idle_timeout_s)


def check_exposure(config: "Config") -> None:
    """Raise ConfigError when everybody on a network could do everything."""
    from casimg_api.wsgi_servers import is_loopback

    if config.auth.mode == "none" and not is_loopback(config.server.host):
        raise ConfigError(
            "server.host",
            f"{config.server.host} is reached from other machines, and there is no authentication; "
            "set auth.mode, or listen on 127.0.0.1",
        )


def _who(config: "Config") -> str:
    if config.auth.mode == "none":
        return f"none, everybody is admin of project {config.auth.project!r}"
    return {"tokens": "static tokens", "keystone": "Keystone"}[config.auth.mode]
