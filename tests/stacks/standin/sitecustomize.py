"""Put `deploy.py` of this folder in the place of `perennial.platforms.hosts.deploy`.

In a test's processes alone: those that have this folder on PYTHONPATH. So the engine, the
providers and the command line are real, and machines are folders, which nobody asks for their room.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import os

HERE = os.path.dirname(os.path.abspath(__file__))
DEPLOY = "perennial.platforms.hosts.deploy"
RESIZING = "perennial.platforms.hosts.resizing"


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname == DEPLOY:
            return importlib.util.spec_from_file_location(fullname, os.path.join(HERE, "deploy.py"))
        if fullname == RESIZING:
            found = importlib.machinery.PathFinder.find_spec(fullname, path)
            found.loader = Roomy(fullname, found.origin)
            return found
        return None


class Roomy(importlib.machinery.SourceFileLoader):
    """Loads what asks machines for their room: a folder holds everything."""

    def exec_module(self, module):
        super().exec_module(module)
        module.refuse_services = lambda *_: None


if "STANDIN" in os.environ:
    import sys

    sys.meta_path.insert(0, Finder())
