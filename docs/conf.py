"""Configuration of Sphinx. `make docs` builds the pages, and a warning is an error."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import perennial

sys.path.insert(0, str(Path(__file__).parent))

# Three pages are made from the code, so that they cannot drift from it.
for generator in ("generate_reference", "generate_cli", "generate_helm"):
    import_module(generator).main()

project = "dask-perennial"
author = "the dask-perennial developers"
project_copyright = author
version = release = perennial.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "reference/generated"]

html_theme = "furo"
html_title = f"dask-perennial {release}"
html_copy_source = False
html_show_sphinx = False

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

# Docstrings are numpydoc; one backtick means code.
default_role = "code"
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 80
