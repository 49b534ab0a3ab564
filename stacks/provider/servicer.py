"""The engine's questions, answered by the kinds of resources."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar

import grpc
from google.protobuf import empty_pb2
from google.protobuf.struct_pb2 import Struct
from pulumi import RunError
from pulumi.provider import Provider
from pulumi.provider.server import ProviderServicer
from pulumi.runtime import proto
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2, status_pb2
from pulumi.runtime.rpc import UNKNOWN

from perennial.errors import PerennialError
from perennial.ssh import Stop

from .kinds import HalfMadeError, Kind, Say, State
from .running import Running
from .values import Values, differences, has_secrets, is_known, message, plain

#: Machines that are worked on side by side. Each costs a thread and a connection of SSH.
AT_ONCE = 64
#: Seconds in which work ends that is not done in time; then it is left to itself.
GRACE = 30.0
#: Seconds between two lines of progress of one resource: not everybody looks at a terminal.
PAUSE = 0.5

Result = TypeVar("Result")
Method = Callable[["Servicer", Any, Any], Coroutine[Any, Any, Any]]


class _FailedError(Exception):
    """What failed, in one line."""


def _answered(method: Method) -> Method:
    """Tell the engine of a failure."""

    @wraps(method)
    async def answered(self: Servicer, request: Any, context: Any) -> Any:
        try:
            return await method(self, request, context)
        except _FailedError as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))

    return answered


class Servicer(ProviderServicer):
    """Answers the engine; what takes time is done in threads of its own."""

    def __init__(
        self,
        provider: Provider,
        kinds: Mapping[str, Kind],
        engine: grpc.aio.Channel | None,
        cancel: Callable[[], None],
        engine_address: str = "",
    ) -> None:
        super().__init__(provider, [], engine_address)
        self._kinds = kinds
        self._engine = engine_pb2_grpc.EngineStub(engine) if engine is not None else None
        self._cancel = cancel
        self._pool = ThreadPoolExecutor(AT_ONCE)
        self._running = Running()

    async def Handshake(  # noqa: N802  (the names of Pulumi's protocol)
        self, _request: Any, _context: Any
    ) -> proto.ProviderHandshakeResponse:
        """Say what this provider understands."""
        return provider_pb2.ProviderHandshakeResponse(
            accept_secrets=True, accept_resources=True, accept_outputs=True
        )

    async def GetSchema(self, _request: Any, _context: Any) -> proto.GetSchemaResponse:  # noqa: N802
        """Describe the package; a program in Python never asks for it."""
        from .schema import schema

        return provider_pb2.GetSchemaResponse(schema=schema())

    async def CheckConfig(self, request: Any, _context: Any) -> proto.CheckResponse:  # noqa: N802
        """Take the provider's configuration as it is: it has none."""
        return provider_pb2.CheckResponse(inputs=request.news)

    async def DiffConfig(self, _request: Any, _context: Any) -> proto.DiffResponse:  # noqa: N802
        """Find no difference: another version of the provider replaces nothing."""
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    async def Configure(self, _request: Any, _context: Any) -> proto.ConfigureResponse:  # noqa: N802
        """Begin to work for an engine."""
        return provider_pb2.ConfigureResponse(
            acceptSecrets=True, acceptResources=True, acceptOutputs=True, supportsPreview=True
        )

    async def Construct(self, request: Any, context: Any) -> proto.ConstructResponse:  # noqa: N802
        """Construct a component; what is wrong with its inputs is one line for each fault."""
        try:
            return await super().Construct(request, context)
        except RunError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            raise

    @_answered
    async def Check(self, request: Any, context: Any) -> proto.CheckResponse:  # noqa: N802
        """Validate inputs, and add what is computed from them."""
        kind, olds = self._kind(request.urn), plain(request.olds)
        inputs = Struct()
        inputs.CopyFrom(request.news)  # what is secret in it stays secret
        news = plain(inputs)
        found, refusals = await self._do(lambda: kind.check(olds, news))
        for key in found.keys() - news.keys():
            inputs.update({key: found[key]})
        for key in news.keys() - found.keys():
            del inputs.fields[key]
        secret = has_secrets(request.news, besides="secrets")
        failures = [
            provider_pb2.CheckFailure(
                property=one.property, reason=(secret and one.unseen) or one.reason
            )
            for one in refusals
        ]
        return provider_pb2.CheckResponse(inputs=inputs, failures=failures)

    @_answered
    async def Diff(self, request: Any, context: Any) -> proto.DiffResponse:  # noqa: N802
        """Compare the inputs that are wanted with those of before, property by property."""
        kind, news = self._kind(request.urn), plain(request.news)
        state = kind.upgraded(_state(request.old_inputs, request.olds))
        olds = state.inputs
        found = {
            path: provider_pb2.PropertyDiff(kind=how, inputDiff=True)
            for path, how in differences(*kind.compared(state, news))
            if _key(path) not in kind.ignored and path not in kind.ignored
        }
        if found.keys() - kind.derived:
            found = {path: each for path, each in found.items() if path not in kind.derived}
        moved = [path for path in kind.identity if _moved(path, olds, news)]
        for path in moved:
            found[path] = provider_pb2.PropertyDiff(
                kind=provider_pb2.PropertyDiff.UPDATE_REPLACE, inputDiff=True
            )
        for path in kind.pending(state, news):
            found[path] = provider_pb2.PropertyDiff(kind=provider_pb2.PropertyDiff.UPDATE)
        if found and is_known(news):
            for line in await self._do(lambda: kind.warnings(state, news)):
                await self._log(request.urn, line, engine_pb2.WARNING)
        some, none = provider_pb2.DiffResponse.DIFF_SOME, provider_pb2.DiffResponse.DIFF_NONE
        return provider_pb2.DiffResponse(
            changes=some if found else none,
            replaces=moved,
            deleteBeforeReplace=True,
            diffs=sorted({_key(path) for path in found}),
            detailedDiff=found,
            hasDetailedDiff=True,
            stables=list(kind.stable),
        )

    @_answered
    async def Create(self, request: Any, context: Any) -> proto.CreateResponse:  # noqa: N802
        """Make a resource; one that could be made in part is kept, and finished later."""
        kind, news = self._kind(request.urn), plain(request.properties)
        if request.preview:
            return provider_pb2.CreateResponse(properties=_to_come(kind))
        say = self._say(request.urn)
        try:
            made = await self._change(lambda: kind.create(news, say), request.timeout)
        except HalfMadeError as error:
            await _abort_half_made(context, kind, error, request.properties)
            raise
        return provider_pb2.CreateResponse(
            id=made.id, properties=message(made.outputs, kind.secrets)
        )

    @_answered
    async def Read(self, request: Any, context: Any) -> proto.ReadResponse:  # noqa: N802
        """Look what became of a resource."""
        if not request.inputs.fields and not request.properties.fields:
            raise _FailedError(
                f"{request.id}: nothing of this package can be imported; `pulumi up` of a program"
                " that says what stands on its machines takes it over"
            )
        kind, state = self._kind(request.urn), _state(request.inputs, request.properties)
        state, say = kind.upgraded(state), self._say(request.urn)
        outputs = await self._do(lambda: kind.read(state, say))
        if outputs is None:
            return provider_pb2.ReadResponse()
        return provider_pb2.ReadResponse(
            id=request.id, inputs=request.inputs, properties=message(outputs, kind.secrets)
        )

    @_answered
    async def Update(self, request: Any, context: Any) -> proto.UpdateResponse:  # noqa: N802
        """Change a resource."""
        kind, news = self._kind(request.urn), plain(request.news)
        state, say = kind.upgraded(_state(request.old_inputs, request.olds)), self._say(request.urn)
        if request.preview:
            stable = {key: state.outputs[key] for key in kind.stable if key in state.outputs}
            outputs = {**dict.fromkeys(kind.computed, UNKNOWN), **stable}
            return provider_pb2.UpdateResponse(properties=message(outputs, kind.secrets))
        outputs = await self._change(lambda: kind.update(state, news, say), request.timeout)
        return provider_pb2.UpdateResponse(properties=message(outputs, kind.secrets))

    @_answered
    async def Delete(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: N802
        """Remove a resource."""
        kind, say = self._kind(request.urn), self._say(request.urn)
        state = kind.upgraded(_state(request.old_inputs, request.properties))
        await self._change(lambda: kind.delete(state, say), request.timeout)
        return empty_pb2.Empty()

    async def Cancel(self, _request: Any, _context: Any) -> empty_pb2.Empty:  # noqa: N802
        """Stop what is being done; the next deployment goes on from there."""
        self._running.cancel()
        self._cancel()
        return empty_pb2.Empty()

    def _kind(self, urn: str) -> Kind:
        token = urn.split("::")[2].rpartition("$")[2]
        return self._kinds[token]

    async def _do(self, work: Callable[[], Result], timeout: float = 0.0) -> Result:
        """Do what takes time, in a thread; a failure is one line."""
        stop = Stop()
        doing = asyncio.get_running_loop().run_in_executor(self._pool, stop.run, work)
        done, _ = await asyncio.wait([doing], timeout=timeout or None)
        if not done:
            stop.ask()
            done, _ = await asyncio.wait([doing], timeout=GRACE)
            if not done or doing.exception() is not None:
                raise _late(doing, timeout)
        try:
            return doing.result()
        except HalfMadeError:
            raise
        except (PerennialError, OSError) as error:
            why = str(error)
        except Exception as error:
            await self._log("", traceback.format_exc(), engine_pb2.DEBUG)
            why = f"{type(error).__name__}: {error}"
        raise _FailedError(why)

    async def _change(self, work: Callable[[], Result], timeout: float) -> Result:
        """Change something; a failure waits until all that is changed beside it is done."""
        try:
            with self._running.doing():
                return await self._do(work, timeout)
        except (_FailedError, HalfMadeError):
            await self._running.finished()
            raise

    def _say(self, urn: str) -> Say:
        """Show what happens beside a resource; what a person must know at the end, as a message."""
        loop = asyncio.get_running_loop()
        last = (0.0, "")

        def say(text: str) -> None:
            nonlocal last
            keeps, (then, before) = text.startswith("!"), last
            # Where the engine writes to a file, each message is a line of it.
            if not keeps and (text == before or time.monotonic() - then < PAUSE):
                return
            last = (time.monotonic(), text)
            sending = self._log(urn, text.removeprefix("!"), engine_pb2.INFO, ephemeral=not keeps)
            asyncio.run_coroutine_threadsafe(sending, loop)

        return say

    async def _log(self, urn: str, text: str, severity: Any, ephemeral: bool = False) -> None:
        if self._engine is None:
            return
        request = engine_pb2.LogRequest(
            severity=severity, message=text, urn=urn, ephemeral=ephemeral
        )
        with suppress(grpc.aio.AioRpcError):  # the engine is gone, and nobody reads it
            await self._engine.Log(request)


def _late(doing: asyncio.Future[Any], timeout: float) -> Exception:
    """Say that a resource was not done in time; what was begun of it is kept."""
    why = f"not done within {timeout:g} s, its custom timeout; run the same again"
    error = doing.exception() if doing.done() else None
    return HalfMadeError(error.made, why) if isinstance(error, HalfMadeError) else _FailedError(why)


def _state(inputs: Struct, outputs: Struct) -> State:
    return State(plain(inputs), plain(outputs))


def _key(path: str) -> str:
    """Return the property to which a path leads."""
    return path.partition(".")[0].partition("[")[0]


def _moved(path: str, olds: Values, news: Values) -> bool:
    """Whether an input that says which resource it is has another value, as far as is known."""
    before: Any = olds
    after: Any = news
    for key in path.split("."):
        before = before.get(key) if isinstance(before, dict) else None
        after = after.get(key) if isinstance(after, dict) else None
    return before is not None and is_known(after) and before != after


def _to_come(kind: Kind) -> Struct:
    """Return outputs that are known only when the resource is there."""
    return message(dict.fromkeys(kind.computed, UNKNOWN), kind.secrets)


async def _abort_half_made(context: Any, kind: Kind, error: HalfMadeError, inputs: Struct) -> None:
    """Fail so that the engine remembers the resource, and updates it the next time."""
    detail = provider_pb2.ErrorResourceInitFailed(
        id=error.made.id,
        properties=message(error.made.outputs, kind.secrets),
        inputs=inputs,
        reasons=[str(error)],
    )
    status = status_pb2.Status(code=grpc.StatusCode.UNKNOWN.value[0], message=str(error))
    status.details.add().Pack(detail)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    await context.abort(grpc.StatusCode.UNKNOWN, str(error))
