"""What is said of each way in which a call to AWS fails."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import boto3
import pytest

from perennial.aws.client import Aws, unless
from perennial.aws.failures import Answer, AwsError, Cause, failure
from tests.ports import free_port

DENIED = (
    "User: arn:aws:sts::123456789012:assumed-role/lab/me is not authorized to perform:"
    " ecs:UpdateService on resource: arn:aws:ecs:eu-central-1:123456789012:service/lab/cpu"
    " because no identity-based policy allows the ecs:UpdateService action"
)
CASES = [
    (Answer("ExpiredToken", "expired", "ecs:ListTasks", 400), Cause.CREDENTIALS, "aws sso login"),
    (Answer("NoCredentialsError", "Unable"), Cause.CREDENTIALS, "no AWS credentials found"),
    (
        Answer("UnrecognizedClientException", "The token is invalid", "ecs:ListTasks", 400),
        Cause.CREDENTIALS,
        "has enabled the region",
    ),
    (
        Answer("AccessDeniedException", DENIED, "ecs:UpdateService", 400),
        Cause.DENIED,
        "the right ecs:UpdateService on arn:aws:ecs:eu-central-1:123456789012:service/lab/cpu is",
    ),
    (
        Answer(
            "UnauthorizedOperation",
            "You are not authorized. Encoded authorization failure message: abcDEF",
            "ec2:RunInstances",
            403,
        ),
        Cause.DENIED,
        "the right ec2:RunInstances is missing",
    ),
    (Answer("ThrottlingException", "Rate exceeded", "ecs:X", 400), Cause.THROTTLED, "in a minute"),
    (Answer("VcpuLimitExceeded", "You have 8", "ec2:X", 400), Cause.QUOTA, "Service Quotas"),
    (Answer("ClusterNotFoundException", "gone", "ecs:X", 400), Cause.MISSING, "gone"),
    (Answer("InvalidVpcID.NotFound", "gone", "ec2:X", 400), Cause.MISSING, "gone"),
    (Answer("InternalFailure", "oops", "ecs:X", 500), Cause.UNREACHABLE, "oops"),
    (Answer("ReadTimeoutError", "slow"), Cause.UNREACHABLE, "check region and network"),
    (Answer("ValidationError", "bad", "ecs:X", 400), Cause.OTHER, "bad"),
]


@pytest.mark.parametrize(("answer", "cause", "said"), CASES, ids=lambda each: str(each)[:40])
def test_each_failure_has_one_line_and_a_cause(answer: Answer, cause: Cause, said: str) -> None:
    error = failure("size cpu", "eu-central-1", answer)
    assert (error.cause, error.code) == (cause, answer.code)
    assert str(error).startswith("cannot size cpu: ")
    assert said in str(error)
    assert "\n" not in str(error)
    assert "Encoded" not in str(error)


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials of whoever runs the tests."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/dev/null")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.mark.usefixtures("alone")
def test_a_page_of_a_gateway_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gateway(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(400)
            self.end_headers()
            self.wfile.write(b"<html>\n<body>\nno such thing\n</body>\n</html>")

    with HTTPServer(("127.0.0.1", 0), Gateway) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        with pytest.raises(AwsError) as caught:
            Aws("eu-central-1").account()
        server.shutdown()
    assert "\n" not in str(caught.value)
    assert "html" not in str(caught.value)


def test_botocore_without_credentials() -> None:
    with pytest.raises(AwsError, match="cannot ask who you are: no AWS credentials found") as found:
        Aws("eu-central-1").account()
    assert found.value.cause is Cause.CREDENTIALS


@pytest.mark.usefixtures("alone")
def test_a_profile_that_is_not_there() -> None:
    with pytest.raises(AwsError, match=r"\(nobody\).*list-profiles"):
        Aws("eu-central-1", "nobody")


@pytest.mark.usefixtures("alone")
def test_an_endpoint_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setattr("perennial.aws.client.TRIES", 1)
    aws = Aws("eu-central-1")
    with pytest.raises(AwsError, match="does not answer in the region eu-central-1"):
        list(aws.pages("list tasks", aws.client("ecs").list_tasks, "taskArns"))
    with pytest.raises(AwsError):  # not what is asked for: it is raised
        unless(Cause.MISSING, aws.account)


def test_every_code_of_a_missing_thing_is_one() -> None:
    """botocore knows the errors of each API: what is called NotFound there means that."""
    model = boto3.Session(region_name="eu-central-1").client("ecs").meta.service_model
    codes = [shape.error_code for shape in model.error_shapes if "NotFound" in shape.name]
    assert len(codes) > 3
    assert {failure("x", "r", Answer(code, "m", "a", 400)).cause for code in codes} == {
        Cause.MISSING
    }
