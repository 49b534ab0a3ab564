"""What Pulumi runs at deploy time: one file a platform, each one component resource.

The modules here import each other relatively: this folder is `perennial.stacks` where it is
installed, and `stacks` for the type checker.
"""

from __future__ import annotations
