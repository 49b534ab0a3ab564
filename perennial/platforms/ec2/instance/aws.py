"""An instance's metadata, and calls of AWS with the rights of its role: standard library alone.

The user data of an instance is this file and one more line. So it needs nothing of ours beside it.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
import os
import shutil
import sys
import tarfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from xml.etree import ElementTree

#: Where an instance finds its metadata; the variable is that of Amazon's own SDKs.
METADATA = "http://169.254.169.254"
#: Seconds for one answer, for which a token of the metadata holds, and between two attempts.
ANSWER, TOKEN, RETRY = 10.0, 21600, 2.0
#: Attempts of a call that may succeed later: over a quarter of an hour.
ATTEMPTS = 20
#: What may succeed later: rights that were just given, a limit of calls, AWS's own troubles.
LATER = (
    "AccessDenied",
    "AccessDeniedException",
    "IncorrectState",
    "InternalFailure",
    "NoSuchKey",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "ResourceNotFoundException",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "UnauthorizedOperation",
    "VolumeInUse",
)
Result = TypeVar("Result")


class CallError(Exception):
    """AWS, or the metadata, has refused or not answered."""

    def __init__(self, what: str, code: str, said: str) -> None:
        super().__init__(f"{what}: {code}: {said}")
        self.code = code


class Metadata:
    """What an instance knows of itself; version 2 of the service, which asks for a token."""

    def __init__(self, endpoint: str = "") -> None:
        named = os.environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "")
        self.endpoint = (endpoint or named or METADATA).rstrip("/")
        self._token = ""
        self._until = 0.0

    def get(self, path: str) -> str | None:
        """Return a text of the metadata; None where there is none."""
        try:
            return self._ask("GET", path, {"X-aws-ec2-metadata-token": self._held()})
        except urllib.error.HTTPError as error:
            if error.code == 401:  # the token is that of an instance that was stopped since
                self._until = 0.0
            if error.code == 404:
                return None
            raise

    def wanted(self, path: str) -> str:
        """Return a text of the metadata that every instance has; wait until it answers."""
        return patiently(f"metadata {path}", lambda: self.get(f"latest/meta-data/{path}") or None)

    def region(self) -> str:
        """Return the region of the instance."""
        return self.wanted("placement/region")

    def domain(self) -> str:
        """Return the domain of AWS's services, which is another one in China."""
        return self.get("latest/meta-data/services/domain") or "amazonaws.com"

    def credentials(self) -> tuple[str, str, str]:
        """Return access key, secret key and session token of the instance's role."""
        folder = "latest/meta-data/iam/security-credentials/"
        role = (self.get(folder) or "").split("\n")[0].strip()
        found = json.loads(self.get(folder + role) or "{}") if role else {}
        if "AccessKeyId" not in found:
            raise CallError("metadata", "NoCredentials", "the instance has no role yet")
        return found["AccessKeyId"], found["SecretAccessKey"], found["Token"]

    def _held(self) -> str:
        if time.monotonic() > self._until:
            header = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN)}
            self._token = self._ask("PUT", "latest/api/token", header)
            self._until = time.monotonic() + TOKEN / 2
        return self._token

    def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> str:
        url = f"{self.endpoint}/{path}"
        request = urllib.request.Request(url, method=method, headers=dict(headers))  # noqa: S310
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(request, timeout=ANSWER) as answer:
            return str(answer.read().decode())


class Aws:
    """Signed calls of AWS's services in one region."""

    def __init__(self, metadata: Metadata, endpoint: str = "") -> None:
        self.metadata = metadata
        self.region = metadata.region()
        self._endpoint = (endpoint or os.environ.get("AWS_ENDPOINT_URL", "")).rstrip("/")

    def json(self, service: str, target: str, values: Mapping[str, Any]) -> Any:
        """Call an action of a service that speaks JSON."""
        headers = {"content-type": "application/x-amz-json-1.1", "x-amz-target": target}
        answer = self.send(target, ("POST", service, "/"), json.dumps(values).encode(), headers)
        return json.loads(answer or b"{}")

    def query(
        self, service: str, version: str, action: str, values: Mapping[str, str]
    ) -> ElementTree.Element:
        """Call an action of a service that takes a form; returns the XML."""
        form = dict(values, Action=action, Version=version)
        headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
        body = urllib.parse.urlencode(sorted(form.items())).encode()
        return ElementTree.fromstring(  # noqa: S314 - AWS's own answer
            self.send(action, ("POST", service, "/"), body, headers)
        )

    def send(
        self,
        what: str,
        request: tuple[str, str, str],
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Send one signed request, of method, service and path; returns the body of the answer."""
        method, service, path = request
        region = "us-east-1" if service == "route53" else self.region
        url = (self._endpoint or self._host(service)) + path
        signed = sign(
            (method, url, headers or {}, body), service, region, self.metadata.credentials()
        )
        sent = urllib.request.Request(  # noqa: S310 - https, or what a test names
            url, method=method, headers=signed, data=body or None
        )
        try:
            with urllib.request.urlopen(sent, timeout=6 * ANSWER) as answer:  # noqa: S310
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise CallError(what, *_refusal(error)) from None
        except OSError as error:
            raise CallError(what, "ServiceUnavailable", str(error)) from None

    def _host(self, service: str) -> str:
        place = service if service == "route53" else f"{service}.{self.region}"
        return f"https://{place}.{self.metadata.domain()}"


def sign(
    request: tuple[str, str, Mapping[str, str], bytes],
    service: str,
    region: str,
    keys: tuple[str, str, str],
    now: float | None = None,
) -> dict[str, str]:
    """Return the headers of a request, signed with version 4 of AWS's signature."""
    method, url, headers, body = request
    access, secret, session = keys
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    parts = urllib.parse.urlsplit(url)
    digest = hashlib.sha256(body).hexdigest()
    named = {key.lower(): value for key, value in headers.items()}
    named.update({"host": parts.netloc, "x-amz-date": stamp, "x-amz-content-sha256": digest})
    if session:
        named["x-amz-security-token"] = session
    order = sorted(named)
    canonical = "\n".join(
        [method, parts.path or "/", parts.query]
        + [f"{key}:{' '.join(named[key].split())}" for key in order]
        + ["", ";".join(order), digest]
    )
    scope = "/".join([stamp[:8], region, service, "aws4_request"])
    digested = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, digested])
    key = ("AWS4" + secret).encode()
    for word in scope.split("/"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    named["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={access}/{scope},"
        f" SignedHeaders={';'.join(order)}, Signature={signature}"
    )
    return named


def _refusal(error: urllib.error.HTTPError) -> tuple[str, str]:
    """Read the code and the message of a refusal, in JSON or in XML."""
    said = error.read().decode(errors="replace")
    try:
        found = json.loads(said)
        return found["__type"].rpartition("#")[2], found.get("message", found.get("Message", ""))
    except (ValueError, KeyError, TypeError):
        pass
    try:
        tree = ElementTree.fromstring(said)  # noqa: S314 - AWS's own answer
        named = {each.tag.rpartition("}")[2]: each.text for each in tree.iter()}
    except ElementTree.ParseError:
        named = {}
    return named.get("Code") or f"HTTP {error.code}", named.get("Message") or said[:200]


def patiently(what: str, attempt: Callable[[], Result | None]) -> Result:
    """Try until something is returned that is not None; for what may succeed later."""
    problem = "nothing yet"
    for number in range(1, ATTEMPTS + 1):
        try:
            found = attempt()
            if found is not None:
                return found
        except CallError as error:
            if error.code not in LATER and error.code != "NoCredentials":
                raise
            problem = str(error)
        except OSError as error:
            problem = str(error)
        print(f"{what}: {problem}; attempt {number} of {ATTEMPTS}", file=sys.stderr)
        time.sleep(min(RETRY * number, 60.0))
    raise CallError(what, "GivenUp", problem)


def fetch(bundle: tuple[str, str, str], folder: str, settings: Mapping[str, Any]) -> None:
    """Fetch the bundle of an instance by bucket, key and digest, and begin with its `boot`."""
    bucket, key, digest = bundle
    metadata = Metadata()
    aws = Aws(metadata)
    place = f"/{bucket}/{key}"
    data = patiently("bundle", lambda: aws.send("GetObject", ("GET", "s3", place)))
    found = hashlib.sha256(data).hexdigest()
    if found != digest:
        raise CallError("bundle", "Changed", f"found the digest {found}, expected {digest}")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, mode=0o700)
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        archive.extractall(folder)  # noqa: S202 - by its digest it is ours
    with open(os.path.join(folder, "settings.json"), "w") as file:
        json.dump(settings, file)
    os.chdir(folder)
    program = [sys.executable, "-m", "perennial.platforms.ec2.instance.boot", "install"]
    os.execv(sys.executable, program)  # noqa: S606 - from the bundle, as root
