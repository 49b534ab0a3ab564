"""Rights of whoever deploys and operates a cluster on AWS: named or tagged resources alone. Pure.

What an API knows no resource for stands in statements with the resource ``*``: it only reads, or it
asks for the cluster's tag.
"""

from perennial.aws.policy.place import Place
from perennial.aws.policy.shared import linked, quotas, shared

__all__ = ["Place", "linked", "quotas", "shared"]
