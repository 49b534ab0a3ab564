# JupyterLab of a standing Dask cluster. Rendered by dask-perennial from the cluster file;
# changes made here are lost at the next `perennial up`.
import hashlib
import os
import sys
import warnings
from importlib.util import find_spec
from pathlib import Path

import zmq
from jupyter_server.serverapp import ServerApp
from jupyter_server.utils import JupyterServerAuthWarning

c = get_config()  # noqa: F821

# The token stands in a file that only this user reads: an argument or a variable would show it
# to every process of the user, and this file may be shown to anybody. Without a token Jupyter
# would let everybody in (empty) or print one into its log (missing), so it does not start.
token_file = '/run/credentials/dask-lab-jupyter.service/jupyter-token'
try:
    token = Path(token_file).read_text(encoding="ascii").strip()
except (OSError, ValueError) as error:
    sys.exit(f"jupyter: cannot read the token file {token_file}: {error}; run `perennial up`")
if not token:
    sys.exit(f"jupyter: the token file {token_file} is empty; remove it and run `perennial up`")
c.IdentityProvider.token = token
# A new token logs out whoever came in with the old one.
c.ServerApp.cookie_secret = hashlib.sha256(b"cookies:" + token.encode()).digest()
# One way in. A password would be a second one, kept in a file of its own.
c.PasswordIdentityProvider.hashed_password = ""
c.PasswordIdentityProvider.allow_password_change = False
# A page that an extension adds asks for the login too, even if its author forgot to say so.
c.ServerApp.allow_unauthenticated_access = False
warnings.simplefilter("ignore", JupyterServerAuthWarning)  # names those pages, which is no news
c.ServerApp.disable_check_xsrf = False

# What is typed and shown here crosses a network, so it speaks HTTPS and nothing else.
c.ServerApp.certfile = '/run/credentials/dask-lab-jupyter.service/jupyter.pem'
c.ServerApp.keyfile = '/run/credentials/dask-lab-jupyter.service/jupyter-key.pem'
c.ServerApp.ip = "address-of-this-instance"
c.ServerApp.port = 8888
c.ServerApp.port_retries = 0
c.ServerApp.base_url = "/"
# Browsers call it by names that it does not know itself. A page that rebinds its own name to
# this address fails at the certificate.
c.ServerApp.allow_remote_access = True

# `perennial open` opens the browser. Jupyter's own page for that holds the token and has mode
# 0644; that it is not written can only be said to the server itself.
c.ServerApp.open_browser = False
ServerApp.instance().no_browser_open_file = True
# Matters to root alone, who has decided so by running the cluster.
c.ServerApp.allow_root = True

directory = '/var/lib/dask-perennial/lab/jupyter/notebooks'
Path(directory).mkdir(parents=True, exist_ok=True)
c.ServerApp.root_dir = directory

# Kernels speak TCP on loopback. Without encryption every user of the machine could listen to
# what they print. A kernel that cannot encrypt still starts.
if zmq.has("curve"):
    c.KernelManager.transport_encryption = "auto"

# A notebook left open in a browser keeps no kernel alive; a running cell does.
c.MappingKernelManager.cull_idle_timeout = 0
c.MappingKernelManager.cull_interval = 1
c.MappingKernelManager.cull_connected = True
c.MappingKernelManager.cull_busy = False

# `!pip` and the terminal find the programs of the environment that the cluster runs in.
programs = str(Path(sys.executable).parent)
others = os.environ.get("PATH", os.defpath).split(os.pathsep)
os.environ["PATH"] = os.pathsep.join(dict.fromkeys([programs, *others]))
# A terminal is a login shell, whose /etc/profile sets PATH anew: their folder is put first again,
# and then the shell is started that one types into. csh takes no command as a login shell.
os.environ["PERENNIAL_PROGRAMS"] = programs
shell = os.environ.setdefault("SHELL", "/bin/sh")
if not shell.endswith("csh"):
    again = 'exec env PATH="$PERENNIAL_PROGRAMS:$PATH" "$SHELL"'
    c.ServerApp.terminado_settings = {"shell_command": [shell, "-l", "-c", again]}

# Dask's dashboard behind this login, at a path that does not change with its port: JupyterLab
# remembers the addresses of the panels that were open.
# By a unix socket that only the scheduler can make: on a port, another user of the machine could
# stand in its place while it is down, within this origin.
pages = '/var/lib/dask-perennial/lab/pages/http'
if len(os.fsencode(pages)) > 107:  # unix(7); the folder stays open, and is named in few letters
    pages = f"/proc/self/fd/{os.open(os.path.dirname(pages), os.O_PATH)}/{os.path.basename(pages)}"
distributed = find_spec("distributed")
logo = Path(distributed.origin).parent / "http/static/images/dask-logo.svg" if distributed else None
c.ServerProxy.servers = {
    'dashboard': {
        "unix_socket": pages,
        "launcher_entry": {
            "title": "Dask dashboard",
            "path_info": 'dashboard/status',
            "icon_path": str(logo) if logo and logo.is_file() else "",
        },
    }
}
if find_spec("dask_labextension"):  # the same way for the panels of the clusters that it lists
    from dask_labextension.dashboardhandler import DaskDashboardHandler

    DaskDashboardHandler.unix_socket = pages
c.ServerProxy.host_allowlist = ["localhost", "127.0.0.1"]

# What runs here is what the cluster file says: no questions about news and newer versions.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.handlers.announcements.NeverCheckForUpdate"
