"""The process of the stand-in, which Pulumi's engine starts and ends."""

from __future__ import annotations

import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread
from time import sleep

import grpc
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import provider_pb2_grpc

#: What the calls of the plugin are signed with: the tests of the rights know them by it.
KEY = "AKIAPROVIDER00000000"


def main() -> None:
    """Serve until the engine is gone."""
    from tests.labs.aws.provider.servicer import Servicer

    os.environ["AWS_ACCESS_KEY_ID"] = KEY
    port, sys.stdout = sys.stdout, sys.stderr
    server = grpc.server(ThreadPoolExecutor(32), options=_GRPC_CHANNEL_OPTIONS)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(Servicer(), server)
    number = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(number, file=port, flush=True)
    done = Event()
    for ended in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ended, lambda *_: done.set())
    Thread(target=_watch, args=(done, os.getppid()), daemon=True).start()
    done.wait()
    os._exit(0)


def _watch(done: Event, engine: int) -> None:
    while os.getppid() == engine:
        sleep(0.5)
    done.set()


if __name__ == "__main__":
    main()
