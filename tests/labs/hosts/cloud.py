"""An instance's surroundings, on the instance: ``python -m tests.labs.hosts.cloud FOLDER PORT``.

Its metadata at the address that every instance finds it at, and the services of the AWS lab.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from tests.labs.aws.groups import refreshing
from tests.labs.aws.server import Lab
from tests.platforms.ec2 import metadata


def main(folder: Path, port: int) -> None:
    """Serve both."""
    known = metadata.server(folder, "169.254.169.254", 80)
    threading.Thread(target=known.serve_forever, daemon=True).start()
    application = Lab(DomainDispatcherApplication(create_backend_app))
    with refreshing():
        make_server(
            "169.254.169.254", port, application, threaded=True, request_handler=MotoRequestHandler
        ).serve_forever()


if __name__ == "__main__":
    os.environ.setdefault("AWS_DEFAULT_REGION", "eu-central-1")
    main(Path(sys.argv[1]), int(sys.argv[2]))
