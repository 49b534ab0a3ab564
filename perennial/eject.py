"""Everything that a person needs to run a cluster without this project's commands. Pure.

Where `perennial.render` gives a service manager's files, this gives them complete: in a folder,
with a README that says what to put where, and how to make what no file may hold.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import yaml

from perennial import render
from perennial.jupyter import token_file
from perennial.services import Service, Site, scheduler_address, services
from perennial.services.configuration import Config
from perennial.spec import ClusterSpec
from perennial.templating import Format, make_environment

if TYPE_CHECKING:
    import jinja2


def systemd_site(
    spec: ClusterSpec, python: str, address: str, temporary: str | None = None
) -> Site:
    """Say where the files of `perennial.render.systemd` expect things.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster file.
    python : str
        Interpreter that runs the services.
    address : str
        Where the scheduler is reached and workers listen.
    temporary : str or None
        Folder for what workers spill to disk, beside others' files.
    """
    config, state = f"/etc/dask-perennial/{spec.name}", f"{render.STATE}/dask-perennial/{spec.name}"
    return Site(
        python=python,
        config=config,
        tls=f"{config}/tls",
        secrets=f"{state}/secrets",
        scratch=_scratch(spec, state, temporary),
        address=address,
        home=f"{state}/jupyter",
        pages=f"{state}/pages",
        shared=True,
    )


def folder_site(
    spec: ClusterSpec,
    root: str,
    home: str,
    python: str,
    address: str,
    temporary: str | None = None,
) -> Site:
    """Say where things are when a cluster has one folder for everything.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster file.
    root : str
        The folder.
    home : str
        Home folder of the user that runs the services.
    python : str
        Interpreter that runs the services.
    address : str
        Where the scheduler is reached and workers listen.
    temporary : str or None
        Folder for what workers spill to disk, beside others' files.
    """
    return Site(
        python=python,
        config=f"{root}/config",
        tls=f"{root}/tls",
        secrets=f"{root}/secrets",
        scratch=_scratch(spec, root, temporary),
        address=address,
        home=home,
        pages=f"{root}/pages",
    )


def eject(spec: ClusterSpec, form: Format, site: Site) -> dict[str, str]:
    """Render everything that a person needs to run a cluster without this project's commands.

    Parameters
    ----------
    spec : ClusterSpec
        The cluster file.
    form : {"systemd", "supervisord"}
        The service manager.
    site : Site
        Where things will be: `systemd_site`, or `folder_site` for supervisord.

    Returns
    -------
    dict of str to str
        Relative paths and texts; ``README.txt`` says what to put where. Certificates and
        Jupyter's token are not among them: the README says how to make them.
    """
    parts = services(spec, site)
    if form == "systemd":
        return _eject_systemd(spec, site, parts)
    return _eject_supervisord(spec, site, parts)


def _eject_systemd(spec: ClusterSpec, site: Site, parts: Sequence[Service]) -> dict[str, str]:
    counts = {name: group.count for name, group in spec.workers.items()}
    files = render.systemd(parts, spec.name, counts)
    foreign = {
        path: render.user(spec.name, part)
        for part in parts
        for path in part.access.writes
        if not render.is_state(path)
    }
    secrets = PurePath(site.secrets)
    folders = [str(path) for path in (secrets.parents[1], secrets.parent, secrets)]
    readme = _readme("systemd", spec, site, foreign=foreign, folders=folders)
    return {path.lstrip("/"): text for path, text in files.items()} | {"README.txt": readme}


def _eject_supervisord(spec: ClusterSpec, site: Site, parts: Sequence[Service]) -> dict[str, str]:
    root = PurePath(site.config).parent
    logs, units = root / "logs", root / "conf.d"
    main = root / "supervisord.conf"
    files = {
        main: render.supervisord_conf(root / "supervisor.sock", logs / "supervisord.log", units)
    }
    for part in parts:
        files |= {PurePath(file.path): file.text for file in part.files}
        for member in _members(part, spec):
            log = logs / f"{member.name}.log"
            files[units / f"{member.name}.conf"] = render.program(member, str(log))
    written = [path for part in parts for path in part.access.writes if path != site.home]
    folders = list(dict.fromkeys([str(logs), site.secrets, *written]))
    readme = _readme("supervisord", spec, site, root=str(root), main=str(main), folders=folders)
    return {str(path.relative_to(root)): text for path, text in files.items()} | {
        "README.txt": readme
    }


def _members(part: Service, spec: ClusterSpec) -> list[Service]:
    if part.group is None:
        return [part]
    return [part.member(str(index)) for index in range(spec.workers[part.group].count)]


def _readme(form: Format, spec: ClusterSpec, site: Site, **values: Any) -> str:
    tls, cluster, address, token_path = map(
        _literal, (site.tls, spec.name, site.address, token_file(site))
    )
    certificates = f"(Path({tls}), {cluster}, (*authority.local_names(), {address}))"
    imports = "from pathlib import Path; from perennial import authority"
    token = (
        "from pathlib import Path; from secrets import token_hex; "
        "from perennial.files import write_atomic; "
        f"write_atomic(Path({token_path}), token_hex(24))"
    )
    return (
        _readmes(form)
        .get_template("README.txt.j2")
        .render(
            cluster=spec.name,
            groups={name: group.count for name, group in spec.workers.items()},
            scaled=spec.scaled,
            tls=site.tls if spec.security.tls else None,
            certificates=_python(site, f"{imports}; authority.ensure{certificates}"),
            renewal=_python(site, f"{imports}; authority.renew{certificates}"),
            token=_python(site, token) if spec.jupyter is not None else None,
            token_file=token_file(site),
            jupyter=spec.jupyter,
            dashboard=spec.scheduler.dashboard_port,
            client=_client(spec, site),
            python=site.python,
            **values,
        )
    )


def _literal(text: str) -> str:
    """Write a Python literal with double quotes, which the shell leaves alone in single ones."""
    return json.dumps(text)


def _scratch(spec: ClusterSpec, root: str, temporary: str | None) -> str:
    return f"{temporary}/perennial-{spec.name}" if temporary else f"{root}/scratch"


def _python(site: Site, code: str) -> str:
    return shlex.join([site.python, "-c", code])


def _client(spec: ClusterSpec, site: Site) -> str:
    """Dask configuration with which a plain ``Client()`` reaches the cluster."""
    config: Config = {"scheduler-address": scheduler_address(spec, site)}
    if spec.security.tls:
        tls = {
            "ca-file": f"{site.tls}/ca.pem",
            "client": {"cert": f"{site.tls}/client.pem", "key": f"{site.tls}/client-key.pem"},
        }
        config["distributed"] = {"comm": {"tls": tls}}
    return yaml.safe_dump(config, sort_keys=False, allow_unicode=True)


@cache
def _readmes(form: Format) -> jinja2.Environment:
    return make_environment(f"perennial.{form}", {"shell": shlex.quote})
