"""The resources of a cluster on hosts, as Pulumi sees them.

Each provider is thin: what is done to a machine stands in `perennial.platforms.hosts.deploy`. The
classes are found by name when Pulumi unpacks a provider, so their text may change without
a change in any stack's state. A resource's outputs hold its inputs, because a provider's
`diff` is given the old outputs only. What has a structure travels as JSON text: Pulumi drops
what is null and makes numbers into floats, and shows the difference of such texts key by key.
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import Any

import pulumi
from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    Resource,
    ResourceProvider,
    UpdateResult,
)
from pulumi.runtime.rpc import UNKNOWN

from perennial.authority import RENEW_WITHIN
from perennial.errors import PerennialError
from perennial.platforms.hosts import libraries
from perennial.platforms.hosts.share import Share, Target, from_json

from . import process, room

Values = dict[str, Any]

# Pulumi asks providers in several threads from the beginning.
libraries.load()


class Provider(ResourceProvider):
    """What the providers have in common."""

    #: The text of a provider is the name of its class: nothing secret, and nothing to hide.
    serialize_as_secret_always = False

    #: Names of the inputs.
    inputs: tuple[str, ...] = ()
    #: Further ones, of which another value is no change.
    aside: tuple[str, ...] = ()
    #: The input that names the cluster.
    names_cluster = ""

    def configure(self, req: ConfigureRequest) -> None:
        """Begin to work for an engine."""
        process.prepare()

    def check(self, _olds: Values, news: Values) -> CheckResult:
        """Refuse inputs that are missing."""
        missing = [name for name in self.inputs if name not in news]
        failures = [CheckFailure(name, "this input is missing") for name in missing]
        known = (*self.inputs, *self.aside)
        return CheckResult({name: news[name] for name in known if name in news}, failures)

    def diff(self, _id: str, olds: Values, news: Values) -> DiffResult:
        """Compare what is asked for with what was done and with what was found.

        A cluster of another name is another cluster: this one is taken down first.
        """
        moved = not _same_cluster(olds.get(self.names_cluster), news.get(self.names_cluster))
        return DiffResult(
            changes=moved or bool(self.changed(olds, news)),
            replaces=[self.names_cluster] if moved else [],
            delete_before_replace=moved,
        )

    def changed(self, olds: Values, news: Values) -> list[str]:
        """Name the inputs that changed; what is not known before the deployment did not."""
        changed = [
            name
            for name in self.inputs
            if not _unknown(news[name]) and olds.get(name) != news[name]
        ]
        return changed + (["drift"] if olds.get("drift") else [])

    def kept(self, news: Values) -> Values:
        """Choose what of the inputs becomes part of the outputs."""
        return {name: news[name] for name in self.inputs}


class AuthorityProvider(Provider):
    """Makes the secrets of a cluster; they exist in Pulumi's state alone."""

    inputs = ("cluster",)

    def diff(self, _id: str, olds: Values, news: Values) -> DiffResult:
        """Say whether the client's certificate is to be renewed, or all to be made anew."""
        replaces = ["cluster"] if olds.get("cluster") != news["cluster"] else []
        return DiffResult(changes=bool(replaces) or ends_soon(olds.get("ends")), replaces=replaces)

    def create(self, props: Values) -> CreateResult:
        """Make the authority, the client's certificate and Jupyter's token."""
        import secrets

        from perennial import certificates

        now = datetime.now(UTC)
        authority = certificates.make_authority(props["cluster"], now)
        outs = {
            **self.kept(props),
            "ca": authority.cert.decode(),
            "ca_key": authority.key.decode(),
            "token": secrets.token_hex(24),
            "created": now.isoformat(timespec="seconds"),
        }
        return CreateResult(props["cluster"], {**outs, **_client(outs, now)})

    def update(self, _id: str, olds: Values, news: Values) -> UpdateResult:
        """Renew the client's certificate, with the key that it has."""
        return UpdateResult({**olds, **self.kept(news), **_client(olds, datetime.now(UTC))})


def _client(secrets: Values, now: datetime) -> Values:
    """Make the client's certificate."""
    from perennial import certificates

    authority = certificates.Pair(secrets["ca"].encode(), secrets["ca_key"].encode())
    key = secrets.get("client_key", "").encode()
    pair = certificates.make_certificate(authority, "client", (), now, key)
    end = certificates.ends(pair.cert)
    return {
        "client": pair.cert.decode(),
        "client_key": pair.key.decode(),
        "ends": end.isoformat() if end else "",
    }


def ends_soon(end: str | None) -> bool:
    """Whether a certificate is to be renewed by now.

    Parameters
    ----------
    end : str or None
        When it ends, in ISO 8601; None where there is no certificate.
    """
    if not end:
        return False
    moment = datetime.fromisoformat(end)
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return moment - datetime.now(UTC) < RENEW_WITHIN


class EnvironmentProvider(Provider):
    """Makes the Python environment on a machine."""

    inputs = ("target", "wish")
    aside = ("claims",)
    names_cluster = "wish"

    def create(self, props: Values) -> CreateResult:
        """Make it."""
        outs = {**self.kept(props), "facts": self._made(props), "drift": []}
        return CreateResult(json.loads(props["target"])["name"], outs)

    def update(self, _id: str, olds: Values, news: Values) -> UpdateResult:
        """Make the new one; the old one goes when nothing runs in it any more."""
        return UpdateResult({**self.kept(news), "facts": self._made(news), "drift": []})

    def read(self, id_: str, props: Values) -> ReadResult:
        """Look what it is now."""
        from perennial.platforms.hosts import deploy

        facts = json.loads(props["facts"])
        try:
            found = deploy.look_environment(_target(props), json.loads(props["wish"]), facts)
        except PerennialError as error:
            # A machine that is off must not keep the others from being mended: whatever
            # is then done to this one fails, and says why.
            return ReadResult(id_, {**props, "drift": [str(error)]})
        if found is None:
            return ReadResult(id_, {**props, "drift": ["the Python environment is gone"]})
        return ReadResult(id_, {**props, "drift": environment_drift(facts, found)})

    def delete(self, _id: str, props: Values) -> None:
        """Remove it."""
        from perennial.platforms.hosts import deploy

        deploy.remove_environment(_target(props), json.loads(props["wish"]))

    def _made(self, props: Values) -> str:
        from perennial.platforms.hosts import deploy

        target = _target(props)
        wish = json.loads(props["wish"])
        claims = json.loads(props["claims"]) if "claims" in props else None
        return packed(deploy.make_environment(target, wish, _Say(target.name), claims))


def environment_drift(before: Values, now: Values) -> list[str]:
    """Say what became of an environment, one line each.

    Parameters
    ----------
    before, now : dict
        Facts about it.
    """
    if before.get("digest") == now.get("digest"):
        return []
    old, new = before.get("packages", {}), now.get("packages", {})
    lines = [
        f"{name} was {old.get(name, 'missing')} and is {new.get(name, 'missing')}"
        for name in sorted({*old, *new})
        if old.get(name) != new.get(name)
    ]
    return lines or ["the Python environment changed"]


class ServicesProvider(Provider):
    """Deploys the services of a machine."""

    inputs = ("share", "secrets")
    aside = ("room",)
    names_cluster = "share"

    def check(self, olds: Values, news: Values) -> CheckResult:
        """Refuse as well what the machine cannot hold."""
        result = super().check(olds, news)
        if why := "" if result.failures else room.refusal(olds, news):
            result.failures.append(CheckFailure("share", why))
        return result

    def changed(self, olds: Values, news: Values) -> list[str]:
        """Name the inputs that changed; a certificate that ends soon is a change as well."""
        expires = json.loads(olds["outcome"]).get("expires")
        return super().changed(olds, news) + (["secrets"] if ends_soon(expires) else [])

    def create(self, props: Values) -> CreateResult:
        """Deploy them for the first time."""
        outs = {**self.kept(props), "outcome": packed(self._applied(props)), "drift": []}
        return CreateResult(json.loads(props["share"])["target"]["name"], outs)

    def update(self, _id: str, olds: Values, news: Values) -> UpdateResult:
        """Change them; a machine that was left for another one of the same name is cleaned."""
        outcome, before = self._applied(news), json.loads(olds["outcome"])
        # Another address can well be the same machine: only the machine's own id tells.
        if before.get("machine") and before["machine"] != outcome.get("machine"):
            self._removed(olds)
        return UpdateResult({**self.kept(news), "outcome": packed(outcome), "drift": []})

    def read(self, id_: str, props: Values) -> ReadResult:
        """Look what became of them."""
        from perennial.platforms.hosts import deploy

        try:
            lines = deploy.look_services(_share(props), json.loads(props["outcome"]))
        except PerennialError as error:
            lines = [str(error)]
        return ReadResult(id_, {**props, "drift": list(lines)})

    def delete(self, _id: str, props: Values) -> None:
        """Drain them, stop them and remove what they needed."""
        self._removed(props)

    def _applied(self, props: Values) -> Values:
        from perennial.platforms.hosts import deploy
        from perennial.platforms.hosts.secrets import Secrets

        from .turns import turns

        share = _share(props)
        say = _Say(share.target.name)
        turn = turns(share.cluster, share.max_unavailable)
        return deploy.apply_services(share, Secrets(**props["secrets"]), say, turn=turn)

    def _removed(self, props: Values) -> None:
        from perennial.platforms.hosts import deploy

        share = _share(props)
        say = _Say(share.target.name)
        for left in deploy.remove_services(share, say):
            say(f"left in place: {left}")  # see `perennial.stacks.events.LEFT`


class _Say:
    """Tells the engine what happens: it shows each line that a provider prints."""

    def __init__(self, machine: str) -> None:
        self._machine = machine

    def __call__(self, text: str) -> None:
        # One write, so that no other thread's line comes between a line and its end.
        sys.stdout.write(f"{self._machine}: {text}\n")
        sys.stdout.flush()


def packed(value: Any) -> str:
    """Write a value as the one JSON text that stands for it.

    Parameters
    ----------
    value : object
        What JSON can hold.
    """
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def _target(props: Values) -> Target:
    return Target(**json.loads(props["target"]))


def _share(props: Values) -> Share:
    return from_json(json.loads(props["share"]))


def _same_cluster(before: str | None, now: str | None) -> bool:
    """Whether two inputs in JSON are of one cluster, as far as both are known."""
    if before is None or now is None or UNKNOWN in (before, now):
        return True
    return bool(json.loads(before).get("cluster") == json.loads(now).get("cluster"))


def _unknown(value: Any) -> bool:
    """Whether a value, or a part of it, is known only when the deployment has come to it."""
    if isinstance(value, dict):
        return any(_unknown(part) for part in value.values())
    return isinstance(value, str) and value == UNKNOWN


class ClusterAuthority(Resource, module="perennial", name="ClusterAuthority"):
    """The certificate authority of a cluster, its client's certificate and Jupyter's token."""

    ca: pulumi.Output[str]
    ca_key: pulumi.Output[str]
    client: pulumi.Output[str]
    client_key: pulumi.Output[str]
    token: pulumi.Output[str]
    created: pulumi.Output[str]
    ends: pulumi.Output[str]

    #: What the state holds encrypted.
    SECRETS = ("ca_key", "client_key", "token")

    def __init__(self, name: str, cluster: str, opts: pulumi.ResourceOptions | None = None) -> None:
        outputs = ("ca", "ca_key", "client", "client_key", "token", "created", "ends")
        super().__init__(
            AuthorityProvider(),
            name,
            {"cluster": cluster, **dict.fromkeys(outputs)},
            pulumi.ResourceOptions.merge(
                opts, pulumi.ResourceOptions(additional_secret_outputs=list(self.SECRETS))
            ),
        )


class HostEnvironment(Resource, module="perennial", name="HostEnvironment"):
    """The Python environment on a machine."""

    facts: pulumi.Output[str]
    drift: pulumi.Output[list[str]]

    def __init__(
        self,
        name: str,
        target: Values,
        wish: Values,
        claims: Values,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        asked = {"target": packed(target), "wish": packed(wish), "claims": packed(claims)}
        props = {**asked, "facts": None, "drift": None}
        super().__init__(EnvironmentProvider(), name, props, opts)


class HostServices(Resource, module="perennial", name="HostServices"):
    """The services on a machine: units, configuration, certificates."""

    share: pulumi.Output[str]
    outcome: pulumi.Output[str]
    drift: pulumi.Output[list[str]]

    def __init__(
        self,
        name: str,
        share: Values,
        secrets: pulumi.Input[Values],
        uses: Values,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        asked = {"share": packed(share), "secrets": secrets, "room": packed(uses)}
        props = {**asked, "outcome": None, "drift": None}
        super().__init__(ServicesProvider(), name, props, opts)
