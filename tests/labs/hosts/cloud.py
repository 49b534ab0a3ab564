"""An instance's surroundings, on the instance: ``python -m tests.labs.hosts.cloud FOLDER PORT``.

Its metadata at the address that every instance finds it at, and AWS's services: those of the AWS
lab, and the answers to lifecycle hooks, which moto does not know.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from tests.labs.aws.server import Lab
from tests.platforms.ec2 import metadata

HOOKS = ("CompleteLifecycleAction", "RecordLifecycleActionHeartbeat")
ANSWER = (
    '<{0}Response xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><{0}Result/>'
    "<ResponseMetadata><RequestId>one</RequestId></ResponseMetadata></{0}Response>"
)

Start = Callable[..., Any]


class WithHooks(DomainDispatcherApplication):  # type: ignore[misc]  # moto has no types
    """Moto, and lifecycle hooks that go on when they are told to."""

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Answer a request."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = BytesIO(body)
        for action in HOOKS:
            if f"Action={action}".encode() in body:
                start("200 OK", [("Content-Type", "text/xml")])
                return [ANSWER.format(action).encode()]
        return super().__call__(environ, start)  # type: ignore[no-any-return]


def main(folder: Path, port: int) -> None:
    """Serve both."""
    known = metadata.server(folder, "169.254.169.254", 80)
    threading.Thread(target=known.serve_forever, daemon=True).start()
    application = Lab(WithHooks(create_backend_app))
    make_server(
        "169.254.169.254", port, application, threaded=True, request_handler=MotoRequestHandler
    ).serve_forever()


if __name__ == "__main__":
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
    main(Path(sys.argv[1]), int(sys.argv[2]))
