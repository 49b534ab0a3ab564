"""What went wrong in a call to AWS, in one line that says what to do. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from perennial.errors import PerennialError


class Cause(StrEnum):
    """Why a call failed: what a caller can act on."""

    CREDENTIALS = "credentials"
    REGION = "region"
    DENIED = "denied"
    THROTTLED = "throttled"
    QUOTA = "quota"
    MISSING = "missing"
    UNREACHABLE = "unreachable"
    OTHER = "other"


class AwsError(PerennialError):
    """AWS refused a call, or did not answer."""

    def __init__(self, message: str, cause: Cause, code: str) -> None:
        super().__init__(message)
        #: Why.
        self.cause = cause
        #: The API's own code, such as ``AccessDeniedException``; the class of botocore's error
        #: where the API has not answered.
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """An error as the API, or botocore itself, has said it."""

    #: The API's code, or the class of botocore's error.
    code: str
    message: str
    #: The right that the call needs, such as ``ecs:UpdateService``; empty where nothing was called.
    action: str = ""
    #: HTTP status; 0 where nobody answered.
    status: int = 0


_EXPIRED = {
    "ExpiredToken",
    "ExpiredTokenException",
    "RequestExpired",
    "SSOTokenLoadError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
_ABSENT = {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"}
#: What AWS says of keys that it does not know, also in a region which the account has not enabled.
_UNKNOWN = {
    "AuthFailure",
    "InvalidClientTokenId",
    "OptInRequired",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_DENIED = {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError"}
_THROTTLED = {
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "ThrottledException",
    "TooManyRequestsException",
}
_UNREACHABLE = {
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "EndpointConnectionError",
    "HTTPClientError",
    "ProxyConnectionError",
    "ReadTimeoutError",
    "SSLError",
}
_QUOTA = re.compile(r".*(LimitExceeded|QuotaExceeded|Exceeds.*Limit).*")
_MISSING = re.compile(r".*NotFound(Exception|Fault|Error)?|.*\.NotFound|NoSuch.*")
#: What IAM writes: the right, and on what.
_RIGHT = re.compile(r"not authorized to perform: (?P<action>[\w-]+:\w+)")
_RESOURCE = re.compile(r"on (?:the )?resource: (?P<resource>\S+)")
#: EC2 encrypts why it refuses; nobody can read that.
_ENCODED = re.compile(r"\s*Encoded authorization failure message: \S+")


def cause_of(answer: Answer) -> Cause:
    """Classify an error."""
    code = answer.code
    groups = {
        Cause.CREDENTIALS: _EXPIRED | _ABSENT | _UNKNOWN | {"ProfileNotFound"},
        Cause.REGION: {"NoRegionError", "InvalidRegionError"},
        Cause.DENIED: _DENIED,
        Cause.THROTTLED: _THROTTLED,
        Cause.UNREACHABLE: _UNREACHABLE,
    }
    for cause, codes in groups.items():
        if code in codes:
            return cause
    if _QUOTA.fullmatch(code):
        return Cause.QUOTA
    if _MISSING.fullmatch(code):
        return Cause.MISSING
    return Cause.UNREACHABLE if answer.status >= 500 else Cause.OTHER


def failure(what: str, region: str, answer: Answer) -> AwsError:
    """Say what could not be done, why, and what to do."""
    cause = cause_of(answer)
    return AwsError(f"cannot {what}: {_why(cause, region, answer)}", cause, answer.code)


def _why(cause: Cause, region: str, answer: Answer) -> str:
    said = _plain(answer.message)
    if cause is Cause.CREDENTIALS:
        return _credentials(answer.code, region, said)
    if cause is Cause.DENIED:
        return _denied(answer)
    if cause is Cause.UNREACHABLE and not answer.status:
        return f"AWS does not answer in the region {region} ({said}); check region and network"
    return said + {
        Cause.REGION: "; set the region in the cluster file, such as eu-central-1",
        Cause.THROTTLED: f"; AWS throttles {answer.action} in this account: try again in a minute",
        Cause.QUOTA: "; raise the quota in Service Quotas, or make the cluster smaller",
    }.get(cause, "")


def _credentials(code: str, region: str, said: str) -> str:
    if code in _EXPIRED:
        return "the AWS credentials have expired; run `aws sso login`, or renew them"
    if code in _UNKNOWN:
        return (
            f"AWS does not accept the credentials in the region {region}; check them with `aws sts"
            " get-caller-identity`, and that the account has enabled the region"
        )
    if code == "ProfileNotFound":
        return f"{said}; correct AWS_PROFILE, or `aws configure list-profiles` lists what is there"
    return "no AWS credentials found; set AWS_PROFILE, or run `aws configure sso`"


def _denied(answer: Answer) -> str:
    right = _RIGHT.search(answer.message)
    where = _RESOURCE.search(answer.message)
    action = right["action"] if right else answer.action
    on = f" on {where['resource'].rstrip('.')}" if where else ""
    return f"the right {action}{on} is missing; ask whoever manages the account's rights for it"


def _plain(message: str) -> str:
    return " ".join(_ENCODED.sub("", message).split()).rstrip(".")
