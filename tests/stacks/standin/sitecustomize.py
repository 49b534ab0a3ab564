"""Put `deploy.py` of this folder in the place of `perennial.platforms.hosts.deploy`.

In a test's processes alone: those that have this folder on PYTHONPATH. So the engine, the
providers and the command line are real, and machines are folders.
"""

import importlib.abc
import importlib.util
import os

HERE = os.path.dirname(os.path.abspath(__file__))


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname != "perennial.platforms.hosts.deploy":
            return None
        return importlib.util.spec_from_file_location(fullname, os.path.join(HERE, "deploy.py"))


if "STANDIN" in os.environ:
    import sys

    sys.meta_path.insert(0, Finder())
