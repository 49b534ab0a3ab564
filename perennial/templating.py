"""Renders the templates of a service manager; each value goes through the filter of its place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from posixpath import basename
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from perennial import quoting

if TYPE_CHECKING:
    import jinja2

#: The service managers whose files can be rendered.
Format = Literal["systemd", "supervisord"]


def manager(form: str) -> Format:
    """Return a format as that of a service manager."""
    if form not in get_args(Format):
        raise ValueError(f"{form}: no service manager")
    return cast("Format", form)


_FILTERS: dict[str, dict[str, Callable[..., Any]]] = {
    "systemd": {
        "command": quoting.systemd_command,
        "assignment": quoting.systemd_assignment,
        "value": quoting.systemd_value,
        "paths": quoting.systemd_paths,
        "basename": basename,
        "seconds": math.ceil,
    },
    "supervisord": {
        "command": quoting.supervisord_command,
        "environment": quoting.supervisord_environment,
        "cron": quoting.cron_command,
        "value": quoting.supervisord_value,
        "seconds": math.ceil,
    },
}


def rendered(form: Format, template: str, **values: Any) -> str:
    """Render a template of a service manager."""
    return _environment(form).get_template(template).render(values)


def make_environment(package: str, filters: Mapping[str, Callable[..., Any]]) -> jinja2.Environment:
    """Make what renders the templates of a package, with filters by name."""
    import jinja2  # 0.1 s to import; only needed once something is rendered

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader(package, ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 - not HTML; each value goes through the filter of its place
    )
    environment.filters.update(filters)
    return environment


@cache
def _environment(form: Format) -> jinja2.Environment:
    return make_environment(f"perennial.{form}", _FILTERS[form])
