"""The engine's questions, answered by the kinds of resources on moto."""

from __future__ import annotations

import hashlib
import json
import os
import traceback
from collections.abc import Callable
from functools import wraps
from typing import Any

import grpc
from botocore.exceptions import BotoCoreError, ClientError
from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc
from pulumi.runtime.rpc import UNKNOWN

from perennial.stacks.provider.values import Values, differences, is_known, message, plain
from tests.labs.aws.provider import (
    balancing,
    containers,
    firewalls,
    instances,
    names,
    network,
    rights,
    storage,
    watching,
)
from tests.labs.aws.provider.invokes import INVOKES
from tests.labs.aws.provider.kind import KINDS, Aws, Kind, UnsupportedError, to_come
from tests.labs.aws.provider.schema import schema

#: Imported for the types that they add.
MODULES = (network, firewalls, rights, watching, containers, balancing, instances)
MODULES = (*MODULES, names, storage)
VERSION = "7.51.1"
#: What a provider's configuration may hold here; whatever else is given would be lost.
CONFIGURED = {"region", "profile", "defaultTags", "version", "skipCredentialsValidation"}
CONFIGURED |= {"skipMetadataApiCheck", "skipRegionValidation", "skipRequestingAccountId"}

Method = Callable[["Servicer", Any, Any], Any]


def _answered(method: Method) -> Method:
    """Tell the engine of a failure, in one line."""

    @wraps(method)
    def answered(self: Servicer, request: Any, context: Any) -> Any:
        try:
            return method(self, request, context)
        except (ClientError, BotoCoreError, UnsupportedError) as error:
            context.abort(grpc.StatusCode.UNKNOWN, f"{_named(request)}: {error}")
        except Exception:
            context.abort(grpc.StatusCode.UNKNOWN, f"{_named(request)}: {traceback.format_exc()}")

    return answered


def _named(request: Any) -> str:
    return str(getattr(request, "urn", "") or getattr(request, "tok", "")).rpartition("$")[2]


class Servicer(provider_pb2_grpc.ResourceProviderServicer):
    """Answers the engine, in the threads of the server."""

    _aws: Aws

    def Handshake(self, request: Any, context: Any) -> Any:
        return provider_pb2.ProviderHandshakeResponse()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:
        return plugin_pb2.PluginInfo(version=VERSION)

    def GetSchema(self, request: Any, context: Any) -> Any:
        return provider_pb2.GetSchemaResponse(schema="{}")

    def CheckConfig(self, request: Any, context: Any) -> Any:
        given = plain(request.news)
        failures = [
            provider_pb2.CheckFailure(property=key, reason="the stand-in does not know it")
            for key in given.keys() - CONFIGURED
        ]
        return provider_pb2.CheckResponse(inputs=request.news, failures=failures)

    def DiffConfig(self, request: Any, context: Any) -> Any:
        old, new = plain(request.olds), plain(request.news)
        replaces = [key for key in ("region",) if old.get(key) != new.get(key)]
        some = old != new
        changes = (
            provider_pb2.DiffResponse.DIFF_SOME if some else provider_pb2.DiffResponse.DIFF_NONE
        )
        return provider_pb2.DiffResponse(changes=changes, replaces=replaces)

    def Configure(self, request: Any, context: Any) -> Any:
        given = plain(request.args)
        region = given.get("region") or os.environ.get("AWS_REGION")
        region = region or os.environ.get("AWS_DEFAULT_REGION")
        if not region:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "aws:region: missing; set AWS_REGION")
        tags = given.get("defaultTags") or {}
        tags = json.loads(tags) if isinstance(tags, str) else tags
        self._aws = Aws(str(region), tags.get("tags"))
        return provider_pb2.ConfigureResponse(acceptSecrets=False, supportsPreview=True)

    @_answered
    def Check(self, request: Any, context: Any) -> Any:
        kind, olds, news = _kind(request.urn), plain(request.olds), plain(request.news)
        refused = list(schema(kind.token).faults(news))
        if not refused:
            refused = kind.check(news)
        inputs = {**kind.defaults, **news}
        key, longest = kind.named or ("", 0)
        if key and key not in news and _prefix(key) not in news:
            made = _made_name(request.urn, request.randomSeed, longest)
            inputs[key] = olds.get(key, made) if olds.get("__named") else made
            inputs["__named"] = True
        failures = [provider_pb2.CheckFailure(property=at, reason=why) for at, why in refused]
        return provider_pb2.CheckResponse(inputs=message(inputs), failures=failures)

    @_answered
    def Diff(self, request: Any, context: Any) -> Any:
        kind, olds, news = _kind(request.urn), plain(request.old_inputs), plain(request.news)
        replacing = {key for key in kind.replaced(olds, news) if olds.get(key) != news.get(key)}
        found = {}
        for path, how in differences(olds, news):
            key = path.partition(".")[0].partition("[")[0]
            shift = how * 2 + 1 if key in replacing else how * 2
            found[path] = provider_pb2.PropertyDiff(kind=shift, inputDiff=True)
        some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
        # A name that a person chose cannot stand twice; one that was made is made anew.
        name = kind.named[0] if kind.named else ""
        twice = bool(name) and "__named" not in news and olds.get(name) == news.get(name)
        return provider_pb2.DiffResponse(
            changes=some if found else none,
            replaces=sorted(replacing),
            deleteBeforeReplace=bool(replacing) and twice,
            diffs=sorted({path.partition(".")[0].partition("[")[0] for path in found}),
            detailedDiff=found,
            hasDetailedDiff=True,
        )

    @_answered
    def Create(self, request: Any, context: Any) -> Any:
        kind, inputs = _kind(request.urn), plain(request.properties)
        if request.preview or not is_known(inputs):
            return provider_pb2.CreateResponse(properties=message(to_come(kind.token, inputs)))
        given = self._tagged(kind, inputs)
        if kind.named and (prefix := inputs.get(_prefix(kind.named[0]))):
            given[kind.named[0]] = f"{prefix}{os.urandom(8).hex()}"
            del given[_prefix(kind.named[0])]
        id_ = kind.create(self._aws, given)
        return provider_pb2.CreateResponse(id=id_, properties=self._state(kind, id_, inputs))

    @_answered
    def Read(self, request: Any, context: Any) -> Any:
        kind, known = _kind(request.urn), plain(request.properties)
        inputs = plain(request.inputs)
        now = kind.read(self._aws, request.id, known)
        if now is None:
            return provider_pb2.ReadResponse()
        seen = {key: _kept(inputs.get(key), now[key]) for key in inputs if key in now}
        if isinstance(seen.get("tags"), dict):
            seen["tags"] = {
                key: text
                for key, text in seen["tags"].items()
                if self._aws.tags.get(key) != text or key in inputs["tags"]
            }
        inputs = {**inputs, **seen}
        properties = message({**known, **now, **inputs, "id": request.id})
        return provider_pb2.ReadResponse(
            id=request.id, inputs=message(inputs), properties=properties
        )

    @_answered
    def Update(self, request: Any, context: Any) -> Any:
        kind, news = _kind(request.urn), plain(request.news)
        olds, known = plain(request.old_inputs), plain(request.olds)
        if request.preview or not is_known(news):
            moving = dict.fromkeys(kind.moving, UNKNOWN)
            return provider_pb2.UpdateResponse(properties=message({**known, **news, **moving}))
        old, new = self._tagged(kind, olds), self._tagged(kind, news)
        before, after = old.get("tags") or {}, new.get("tags") or {}
        # An Auto Scaling group's are a list, and no tags but inputs as the others.
        are_tags = isinstance(before, dict) and isinstance(after, dict)
        hidden = {"tags": None} if are_tags else {}
        if {**old, **hidden} != {**new, **hidden}:
            kind.update(self._aws, request.id, {**known, **old}, new)
        if are_tags and before != after:
            lost = sorted(before.keys() - after)
            kind.retag(self._aws, request.id, {**known, **new}, lost, after)
        return provider_pb2.UpdateResponse(properties=self._state(kind, request.id, news))

    @_answered
    def Delete(self, request: Any, context: Any) -> Any:
        kind, known = _kind(request.urn), plain(request.properties)
        kind.delete(self._aws, request.id, known)
        return empty_pb2.Empty()

    @_answered
    def Invoke(self, request: Any, context: Any) -> Any:
        if request.tok not in INVOKES:
            raise UnsupportedError("the stand-in does not know this function")
        answer = INVOKES[request.tok](self._aws, plain(request.args))
        return provider_pb2.InvokeResponse(**{"return": message(answer)})

    def Cancel(self, request: Any, context: Any) -> Any:
        return empty_pb2.Empty()

    def _tagged(self, kind: Kind, inputs: Values) -> Values:
        """Return inputs with the provider's own tags, where the type has any."""
        inputs = {key: value for key, value in inputs.items() if not key.startswith("__")}
        tags = inputs.get("tags") or {}
        if (
            not self._aws.tags
            or "tags" not in schema(kind.token).inputs
            or not isinstance(tags, dict)
        ):
            return inputs
        return {**inputs, "tags": {**self._aws.tags, **tags}}

    def _state(self, kind: Kind, id_: str, inputs: Values) -> Any:
        given = self._tagged(kind, inputs)
        now = kind.read(self._aws, id_, given)
        if now is None:
            raise UnsupportedError(f"{id_}: not there after it was made")
        outputs = schema(kind.token).outputs
        state: dict[str, Any] = {**now, **inputs}
        if "tagsAll" in outputs:
            state["tagsAll"] = given.get("tags") or {}
        if strange := state.keys() - outputs - {"id", "__named"}:
            raise UnsupportedError(f"{kind.token} has no outputs {', '.join(sorted(strange))}")
        if "region" in outputs:
            state.setdefault("region", self._aws.region)
        return message({**state, "id": id_})


def _kind(urn: str) -> Kind:
    token = urn.split("::")[2].rpartition("$")[2]
    if token not in KINDS:
        raise UnsupportedError(f"the stand-in does not know the type {token}")
    return KINDS[token]


def _prefix(key: str) -> str:
    """Return the input that holds the beginning of a name."""
    return f"{key}Prefix"


def _kept(input_: Any, now: Any) -> Any:
    """Return what is there now, in the order of the input: most lists of AWS are sets."""
    if isinstance(input_, list) and isinstance(now, list):
        one, other = (sorted(json.dumps(each) for each in some) for some in (input_, now))
        return input_ if one == other else now
    return now


def _made_name(urn: str, seed: bytes, longest: int) -> str:
    name = urn.rpartition("::")[2]
    end = hashlib.sha256(seed or os.urandom(8)).hexdigest()[:7]
    return f"{name[: longest - 8]}-{end}"
