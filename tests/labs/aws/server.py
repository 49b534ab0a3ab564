"""Moto in a process of its own, stricter than moto: ``python -W default -m tests.labs.aws.server``.

In front of moto stands what moto lacks. Every call, whoever makes it, is parsed by the model of its
API, refused where AWS would refuse its values, and recorded for the tests of the rights.

``GET /lab/calls`` gives the calls since the last ``POST /moto-api/reset``.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from io import BytesIO
from threading import Lock
from typing import Any
from xml.sax.saxutils import escape

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.utils import get_service_model
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from tests.labs.aws.groups import refreshing
from tests.labs.aws.quotas import granted
from tests.labs.aws.shapes import faults, service
from tests.platforms.fargate.controller import scheduling

#: botocore's names of the services whose calls are signed with another name.
NAMES = {
    "elasticloadbalancing": "elbv2",
    "elasticfilesystem": "efs",
    "monitoring": "cloudwatch",
    "servicequotas": "service-quotas",
    "tagging": "resourcegroupstaggingapi",
}

#: Ids that AWS makes up.
ID = re.compile(r"\b(?:[a-z]+-[0-9a-f]{8,17}|(?:ns|srv)-[a-z0-9]{8,32})\b")
StartResponse = Callable[..., Any]


@dataclass(frozen=True)
class Call:
    """A call that reached the server."""

    #: The access key that it was signed with: the lab gives the plugin one of its own.
    key: str
    region: str
    service: str
    operation: str
    params: dict[str, Any]
    status: int
    #: Ids in the answer that the call did not name: of what it has made, where it makes something.
    made: tuple[str, ...] = ()


class Lab:
    """The application in front of moto's."""

    def __init__(self, moto: DomainDispatcherApplication) -> None:
        self._moto = moto
        self._calls: list[Call] = []
        self._lock = Lock()

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        path = environ.get("PATH_INFO", "")
        if path == "/lab/calls":
            with self._lock:
                told = json.dumps([asdict(call) for call in self._calls], default=str).encode()
            start("200 OK", [("Content-Type", "application/json")])
            return [told]
        if path == "/moto-api/reset":
            with self._lock:
                self._calls.clear()
        signed = environ.get("HTTP_AUTHORIZATION", "")
        if "Credential=" not in signed:
            return self._moto(environ, start)  # type: ignore[no-any-return]
        return self._answered(environ, start, signed)

    def _answered(
        self, environ: dict[str, Any], start: StartResponse, signed: str
    ) -> Iterable[bytes]:
        key, _, region, signing, _ = signed.partition("Credential=")[2].split(",")[0].split("/")
        name = NAMES.get(signing, signing)
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        operation, params = parsed(name, Request(environ.copy()))
        environ["wsgi.input"] = BytesIO(body)
        found = faults(service(name).operation_model(operation), params)
        if found:
            self._record(Call(key, region, name, operation, params, 400))
            return _refused(name, environ, start, f"{name} {'; '.join(found)}")

        said: list[str] = []

        def heard(status: str, *rest: Any, **more: Any) -> Any:
            said.append(status)
            return start(status, *rest, **more)

        answer = b"".join(self._moto(environ, heard))
        made: tuple[str, ...] = ()
        if operation.startswith(("Create", "Allocate", "Authorize", "Associate", "GetOperation")):
            named = repr(params)
            ids = dict.fromkeys(ID.findall(answer.decode(errors="replace")))
            made = tuple(id_ for id_ in ids if id_ not in named)
        self._record(Call(key, region, name, operation, params, int(said[0][:3]), made))
        return [answer]

    def _record(self, call: Call) -> None:
        with self._lock:
            self._calls.append(call)


def parsed(name: str, request: Request) -> tuple[str, dict[str, Any]]:
    """Return the operation of a request, and its parameters."""
    model = get_service_model(name)
    labels: dict[str, Any] = {}
    target = request.headers.get("X-Amz-Target", "")
    action = request.values.get("Action") or target.rpartition(".")[2]
    if action:
        operation = model.operation_model(action)
    else:
        operation, labels = get_service_router(name).match(request)
    parser = PROTOCOL_PARSERS[determine_request_protocol(model, request.content_type)](operation)
    values = parser.parse(
        {
            "method": request.method,
            "values": request.values,
            "headers": request.headers,
            "body": request.data,
            "url_path": request.path,
            "url_params": labels,
        }
    )
    form = operation.service_model.metadata["protocol"] in {"ec2", "query"}
    return operation.name, dict(_present(values, form))


def _present(values: dict[str, Any], form: bool) -> Iterator[tuple[str, Any]]:
    """Give the parameters that a call has; of a form, the parser names each that it could have."""
    for key, value in values.items():
        if value is not None and not (form and value in ({}, [])):
            yield key, value


def _refused(name: str, environ: dict[str, Any], start: StartResponse, why: str) -> Iterable[bytes]:
    protocol = service(name).metadata["protocol"]
    code = {"ec2": "InvalidParameterValue", "query": "ValidationError"}.get(
        protocol, "ValidationException"
    )
    form = environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded")
    error = f"<Code>{code}</Code><Message>{escape(why)}</Message>"
    if form and protocol == "ec2":
        text = f"<Response><Errors><Error>{error}</Error></Errors></Response>"
    elif form or protocol == "rest-xml":
        text = f"<ErrorResponse><Error><Type>Sender</Type>{error}</Error></ErrorResponse>"
        if name == "s3":
            text = f"<Error>{error}</Error>"
    else:
        text = json.dumps({"__type": code, "message": why})
    start("400 Bad Request", [("Content-Type", "text/xml" if text[0] == "<" else "text/json")])
    return [text.encode()]


def main(port: int) -> None:
    """Serve until the process is ended, or its parent has gone."""
    application = Lab(DomainDispatcherApplication(create_backend_app))
    server = make_server(
        "127.0.0.1", port, application, threaded=True, request_handler=MotoRequestHandler
    )
    print(f"serving on {server.server_address[1]}", flush=True)
    with scheduling(), refreshing(), granted():
        server.serve_forever()


if __name__ == "__main__":
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
    main(int(sys.argv[1]) if sys.argv[1:] else 0)
