"""The client of AWS's APIs, and its errors in one line each. boto3 is imported on use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from perennial.aws.failures import Answer, AwsError, Cause, failure
from perennial.errors import PerennialError

#: Seconds in which an endpoint must connect, and answer.
TIMEOUT = (5, 20)
#: Calls until one has succeeded; botocore waits longer before each, with jitter.
TRIES = 8


class Aws:
    """The calls of one account in one region.

    Credentials are found as the AWS command line finds them. ``AWS_ENDPOINT_URL`` leads elsewhere.
    """

    def __init__(self, region: str, profile: str | None = None) -> None:
        self.region = region
        self._session = _session(region, profile)
        self.client = cache(self._client)

    def _client(self, service: str) -> Any:
        """Return the client of a service, such as ``ecs``."""
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError

        config = Config(
            retries={"mode": "standard", "total_max_attempts": TRIES},
            connect_timeout=TIMEOUT[0],
            read_timeout=TIMEOUT[1],
            user_agent_extra="dask-perennial",
        )
        try:
            return self._session.client(service, region_name=self.region, config=config)
        except BotoCoreError as error:
            raise failure(f"use {service}", self.region, _of_botocore(error)) from None

    def call(self, what: str, method: Callable[..., Any], **given: Any) -> Any:
        """Call a method of a client; raise `AwsError` that says what could not be done."""
        return self._called(what, method, lambda: method(**given))

    def pages(self, what: str, method: Any, key: str, **given: Any) -> Iterator[Any]:
        """Yield every item of a list that comes in pages, as ``taskArns`` of ``list_tasks``."""
        pages = iter(method.__self__.get_paginator(method.__name__).paginate(**given))
        while (page := self._called(what, method, lambda: next(pages, None))) is not None:
            yield from page.get(key, ())

    def _called(self, what: str, method: Any, call: Callable[[], Any]) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            return call()
        except ClientError as error:
            service = method.__self__.meta.service_model.signing_name
            raise failure(what, self.region, _of_api(error, service)) from None
        except (BotoCoreError, ResponseParserError) as error:
            raise failure(what, self.region, _of_botocore(error)) from None

    def account(self) -> str:
        """Return the number of the account."""
        sts = self.client("sts")
        return str(self.call("ask who you are", sts.get_caller_identity)["Account"])


def unless(cause: Cause, call: Callable[[], Any]) -> Any:
    """Return what a call returns; None where it fails for this cause."""
    try:
        return call()
    except AwsError as error:
        if error.cause is not cause:
            raise
        return None


def _session(region: str, profile: str | None) -> Any:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ModuleNotFoundError as error:
        raise PerennialError(
            f"{error.name} is not installed here; `pip install 'dask-perennial[aws]'` brings it"
        ) from None
    try:
        return boto3.Session(region_name=region, profile_name=profile)
    except BotoCoreError as error:
        raise failure("use AWS", region, _of_botocore(error)) from None


def _of_api(error: Any, service: str) -> Answer:
    """Read what an API has said; the right that a call needs is named after it."""
    said = error.response.get("Error", {})
    return Answer(
        code=str(said.get("Code", "")),
        message=str(said.get("Message", "")) or str(error),
        action=f"{service}:{error.operation_name}",
        status=int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)),
    )


def _of_botocore(error: Exception) -> Answer:
    """Read what botocore has said; after its first line comes a whole page of a gateway's."""
    first, *_ = str(error).splitlines() or [""]
    return Answer(code=type(error).__name__, message=first)
