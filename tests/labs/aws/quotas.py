"""What moto's Service Quotas lacks: how much an account may have at first."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from moto.servicequotas.models import ServiceQuotasBackend

#: By service and quota: vCPUs on demand and on spot, VPCs, and addresses.
QUOTAS = {
    **{("ec2", "L-1216C47A"): 256.0, ("ec2", "L-34B43A08"): 256.0},
    **{("fargate", "L-3032A538"): 128.0, ("fargate", "L-36FBB829"): 128.0},
    **{("vpc", "L-F678F1CE"): 5.0, ("ec2", "L-0263D0A3"): 5.0},
}
_get = ServiceQuotasBackend.get_service_quota


@contextmanager
def granted() -> Iterator[None]:
    """Add these quotas to moto's."""
    with patch.object(ServiceQuotasBackend, "get_service_quota", _found):
        yield


def _found(self: ServiceQuotasBackend, service_code: str, quota_code: str) -> dict[str, Any]:
    value = QUOTAS.get((service_code, quota_code))
    if value is None:
        return _get(self, service_code, quota_code)
    return {"ServiceCode": service_code, "QuotaCode": quota_code, "Value": value}
