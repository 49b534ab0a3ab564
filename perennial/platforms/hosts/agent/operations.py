"""What may be asked of the agent, by name, and the function that answers."""

from __future__ import annotations

#: Functions as ``module.function`` below `perennial.platforms.hosts.agent`: a module is sent when
#: it is needed first.
OPERATIONS = {
    "look": "facts.look",
    "members": "facts.members",
    "clashes": "facts.clashes",
    "listens": "facts.listens",
    "page": "examining.page",
    "serves": "examining.serves",
    "free": "examining.free",
    "manifest": "manifest.known",
    "folder": "manifest.folder",
    "settle": "boot.settle",
    "begin": "store.begin",
    "write": "store.write",
    "upload": "store.upload",
    "keep": "manifest.keep",
    "finish": "store.finish",
    "take_down": "store.take_down",
    "remove": "store.remove",
    "digests": "store.digests",
    "usage": "usage.usage",
    "machine": "machine.look",
    "machine_id": "facts.machine_id",
    "log": "journal.log",
    "log_since": "journal.log_since",
    "leaving": "journal.leaving",
    "left": "journal.left",
    "listening": "examining.listening_ports",
    "probe": "examining.probe",
    "firewall": "firewall.firewall",
    "systemd_reload": "systemd.reload",
    "systemd_start": "systemd.start",
    "systemd_restart": "systemd.restart",
    "systemd_stop": "systemd.stop",
    "supervisord_apply": "supervisord.apply",
    "supervisord_bounce": "supervisord.bounce",
    "supervisord_end": "supervisord.end",
    "architecture": "environments.architecture",
    "environment_look": "environments.look",
    "environment_make": "making.make",
    "environment_remove": "making.remove",
}

#: Operations that say what they do while they do it.
REPORTING = (
    "systemd_start",
    "systemd_restart",
    "systemd_stop",
    "supervisord_apply",
    "supervisord_bounce",
    "environment_make",
    "take_down",
    "remove",
)
