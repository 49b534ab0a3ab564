"""JupyterLab as a service of a cluster: its command, environment and configuration.

Pure, but for `open_url_file`, which the command line calls to open a browser. Three folders
take part, all below those that a platform decides (`Place`):

- ``<config>/jupyter``: the rendered configuration, without a secret;
- ``<secrets>/jupyter-token``: the token, made by the platform; JupyterLab does not start
  without it;
- ``<secrets>/jupyter``: what Jupyter writes while it runs, some of it secret: the token for
  its own command line tools, the keys of the kernels.

On loopback it serves HTTP. Anywhere else it serves HTTPS, with the certificate
``<tls>/jupyter.pem``.
"""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlencode

from perennial.files import write_atomic
from perennial.pages import socket_of

if TYPE_CHECKING:
    from perennial.spec.models import Jupyter

#: Name below which Jupyter serves Dask's dashboard, and the path of its first page.
DASHBOARD = "dashboard"
DASHBOARD_LINK = f"/{DASHBOARD}/status"

_LOOPBACK = "127.0.0.1"


class JupyterSite(Protocol):
    """Where things are on the machine that runs JupyterLab; `perennial.services.Site` is one."""

    @property
    def python(self) -> str:
        """Interpreter that runs JupyterLab."""

    @property
    def config(self) -> str:
        """Folder of rendered configuration files."""

    @property
    def tls(self) -> str:
        """Folder of certificates and keys."""

    @property
    def secrets(self) -> str:
        """Folder of secrets other than TLS keys."""

    @property
    def home(self) -> str:
        """Home folder of the user that runs JupyterLab."""

    @property
    def jupyter_address(self) -> str:
        """Address on which JupyterLab listens."""

    @property
    def dashboard(self) -> bool:
        """Whether Dask's dashboard is on the same machine."""

    @property
    def pages(self) -> str:
        """Folder of the unix socket on which the dashboard is served."""


def token_file(site: JupyterSite) -> str:
    """File that holds the token, of mode 0600; a platform makes it."""
    return f"{site.secrets}/jupyter-token"


def state_directory(site: JupyterSite) -> str:
    """Folder that JupyterLab writes to while it runs, of mode 0700."""
    return f"{site.secrets}/jupyter"


def certificate_files(site: JupyterSite) -> tuple[str, ...]:
    """Certificate and key with which JupyterLab serves HTTPS; none on loopback."""
    if site.jupyter_address == _LOOPBACK:
        return ()
    return (f"{site.tls}/jupyter.pem", f"{site.tls}/jupyter-key.pem")


def notebook_directory(jupyter: Jupyter, site: JupyterSite) -> str:
    """Folder of the notebooks, with the home folder in the place of ``~``."""
    given = jupyter.directory
    if given == "~" or given.startswith("~/"):
        given = given[2:]
    return str(Path(site.home, given))


def jupyter_argv(site: JupyterSite) -> tuple[str, ...]:
    """Command of JupyterLab."""
    # -P: a notebook folder that holds a json.py must not shadow the standard library's.
    return (site.python, "-P", "-m", "jupyterlab", f"--config={_server_config(site)}")


def jupyter_environment(site: JupyterSite) -> tuple[tuple[str, str], ...]:
    """Variables of JupyterLab, beside those that make Dask's ``Client()`` work.

    The user's own Jupyter settings for servers (``~/.jupyter/jupyter_*_config.*``) are not
    read: a cluster behaves as its cluster file says, and a password, an address or a base URL
    meant for another Jupyter would open this one or hide it. The settings of the interface
    (themes, shortcuts) are the user's own, and shared with their other JupyterLabs. Open tabs
    are not shared, since they are paths in one notebook folder.
    """
    state = state_directory(site)
    return (
        ("JUPYTER_CONFIG_DIR", f"{state}/config"),
        ("JUPYTER_CONFIG_PATH", f"{site.config}/jupyter"),
        ("JUPYTER_RUNTIME_DIR", f"{state}/runtime"),
        ("JUPYTERLAB_SETTINGS_DIR", f"{site.home}/.jupyter/lab/user-settings"),
    )


def jupyter_files(
    jupyter: Jupyter, site: JupyterSite, clusters: bool = False
) -> tuple[tuple[str, str], ...]:
    """Render the configuration files of JupyterLab, path and text; they hold no secret."""
    idle = math.ceil(jupyter.idle)
    values = {
        "token_file": token_file(site),
        "address": site.jupyter_address,
        "certificate": certificate_files(site),
        "port": jupyter.port,
        "directory": notebook_directory(jupyter, site),
        "cull_idle_timeout": idle,
        # Often enough that a kernel outlives its time by a tenth, but at most once a second.
        "cull_interval": min(max(idle // 10, 1), 300),
        "dashboard": DASHBOARD if site.dashboard else None,
        "dashboard_socket": socket_of(site.pages),
    }
    interface = _interface_settings(site.dashboard, clusters)
    settings = json.dumps(interface, indent=2, sort_keys=True) + "\n"
    return (
        (_server_config(site), _render("jupyter_server_config.py.j2", values)),
        (f"{site.config}/jupyter/labconfig/default_setting_overrides.json", settings),
    )


def dask_sidebar(title: str, group: str, dashboard_port: int) -> dict[str, Any]:
    """Write Dask's configuration with which the Dask sidebar lists the cluster that stands.

    What the sidebar calls SCALE asks the cluster's scaler; SHUTDOWN only takes it off the list,
    and NEW puts it there again.
    """
    arguments = {
        "group": group,
        # JupyterLab may be there before the scheduler is.
        "wait": False,
        "quiet": True,
        # The extension wants one that it can open itself; it goes by the socket, see the template.
        "dashboard-link": f"http://localhost:{dashboard_port}/status",
    }
    factory = {"module": "perennial", "class": "Cluster", "args": [], "kwargs": arguments}
    return {"labextension": {"factory": factory, "initial": [{"name": title}]}}


def open_url_file(url: str, token: str, directory: Path) -> Path:
    """Write a page that redirects a browser to JupyterLab and logs it in.

    A browser is opened with a file's name, because what stands in an argument can be read by
    every user of the machine.
    """
    target = html.escape(f"{url}?{urlencode({'token': token})}")
    page = directory / "open-jupyterlab.html"
    write_atomic(
        page,
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8"><title>JupyterLab</title>\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<meta http-equiv="refresh" content="0; url={target}"></head>\n'
        f'<body><a href="{target}">JupyterLab</a></body></html>\n',
        mode=0o600,
    )
    return page


def _server_config(site: JupyterSite) -> str:
    return f"{site.config}/jupyter/jupyter_server_config.py"


def _interface_settings(dashboard: bool, clusters: bool) -> dict[str, dict[str, Any]]:
    """Defaults of the interface; a user's own settings stand above them."""
    return {
        "dask-labextension:plugin": {
            # Relative to the address in the browser, so it holds through a tunnel as well.
            "defaultURL": f"/{DASHBOARD}" if dashboard else "",
            # The extension's own clusters would live and die with Jupyter; this one stands.
            "hideClusterManager": not clusters,
        },
        "@jupyterlab/apputils-extension:notification": {
            "checkForUpdates": False,
            "fetchNews": "false",
        },
    }


def _literal(value: object) -> str:
    """Write a value for Python; a placeholder stays as it is, to be filled in later."""
    return re.sub(r"\\u(e00[0-9a-f])", lambda found: chr(int(found[1], 16)), repr(value))


def _render(template: str, values: dict[str, object]) -> str:
    import jinja2  # 0.1 s to import; only needed once something is rendered

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("perennial.templates", ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - Python, not HTML; each value goes through `python`
    )
    environment.filters["python"] = _literal
    return environment.get_template(template).render(values)
