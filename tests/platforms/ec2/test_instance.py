"""What runs on an instance beside Dask: with a real metadata server, and moto's services."""

from __future__ import annotations

import ast
import base64
import hashlib
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from perennial.platforms.ec2.instance import aws as calls
from perennial.platforms.ec2.instance import boot, logs, watch
from perennial.platforms.ec2.instance.aws import Aws, CallError, Metadata, sign
from tests.examples import examples
from tests.platforms.ec2 import metadata

KEYS = ("ASIAINSTANCE00000000", "secret", "session-token")
NOW = 1_795_968_000.0  # 2026-11-29 16:00 UTC


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer(port=0)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    metadata.describe(tmp_path / "metadata", "10.0.0.7")
    return tmp_path / "metadata"


@pytest.fixture
def here(folder: Path) -> Iterator[Metadata]:
    with metadata.serving(folder) as url:
        yield Metadata(url)


@pytest.fixture
def aws(here: Metadata, moto: str) -> Aws:
    return Aws(here, moto)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RETRY", 0.01)
    monkeypatch.setattr(calls, "ATTEMPTS", 3)


def client(service: str, moto: str) -> Any:
    return boto3.client(
        service,
        region_name="eu-central-1",
        endpoint_url=moto,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


HEADERS = st.dictionaries(
    st.sampled_from(["content-type", "x-amz-target", "X-Amz-Meta-One"]),
    st.text("abcXYZ019 /;=.-", min_size=1, max_size=30).map(str.strip).filter(bool),
)


@settings(max_examples=examples(200), deadline=None)
@given(
    st.sampled_from(["GET", "POST"]),
    st.sampled_from(["/", "/bucket/key.tar", "/2013-04-01/hostedzone/Z1/rrset"]),
    HEADERS,
    st.binary(max_size=50),
    st.sampled_from(["s3", "secretsmanager", "route53", "autoscaling"]),
)
def test_it_signs_as_botocore_does(
    method: str, path: str, headers: dict[str, str], body: bytes, service: str
) -> None:
    url = f"https://{service}.eu-central-1.amazonaws.com{path}"
    ours = sign((method, url, headers, body), service, "eu-central-1", KEYS, NOW)
    given = {**headers, "x-amz-content-sha256": hashlib.sha256(body).hexdigest()}
    request = AWSRequest(method=method, url=url, headers=given, data=body)
    signer = S3SigV4Auth if service == "s3" else SigV4Auth
    with pytest.MonkeyPatch.context() as patch:
        stamp = datetime(2026, 11, 29, 16, 0, 0, tzinfo=UTC)
        patch.setattr("botocore.auth.get_current_datetime", lambda: stamp)
        signer(Credentials(*KEYS), service, "eu-central-1").add_auth(request)
    assert ours["x-amz-date"] == request.headers["X-Amz-Date"]
    assert ours["authorization"] == request.headers["Authorization"]


def test_the_metadata_is_read_with_a_token(here: Metadata, folder: Path) -> None:
    assert here.wanted("instance-id") == metadata.INSTANCE
    assert here.region() == "eu-central-1"
    assert here.get("latest/meta-data/spot/instance-action") is None
    assert here.credentials() == KEYS
    here._token = "of another boot"
    with pytest.raises(OSError, match="401"):
        here.get("latest/meta-data/instance-id")
    assert here.get("latest/meta-data/instance-id") == metadata.INSTANCE


def test_an_instance_whose_role_is_not_there_yet_says_so(here: Metadata, folder: Path) -> None:
    (folder / "latest/meta-data/iam/security-credentials/.index").unlink()
    with pytest.raises(CallError, match="the instance has no role yet"):
        here.credentials()


def test_the_bundle_is_fetched_and_checked(
    here: Metadata, moto: str, tmp_path: Path, folder: Path
) -> None:
    """By the user data itself, in a process of its own, as an instance runs it."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        program = "import sys, os; print(sys.argv[1:], os.getcwd())"
        files = {"perennial/platforms/ec2/instance/boot.py": program, "bundle.json": "{}"}
        for path, text in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(text)
            archive.addfile(entry, io.BytesIO(text.encode()))
    data = packed.getvalue()
    bucket = client("s3", moto)
    bucket.create_bucket(
        Bucket="bundles", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    bucket.put_object(Bucket="bundles", Key="cpu/one.tar", Body=data)
    digest, target = hashlib.sha256(data).hexdigest(), tmp_path / "opt/lab/bundle"

    def run(expected: str) -> subprocess.CompletedProcess[str]:
        told = ("bundles", "cpu/one.tar", expected)
        program = (
            Path(calls.__file__).read_text() + f"\nfetch({told!r}, {str(target)!r}, {{'a': 1}})\n"
        )
        (tmp_path / "user-data").write_text(program)
        return subprocess.run(
            [sys.executable, "-I", str(tmp_path / "user-data")],
            env={"AWS_EC2_METADATA_SERVICE_ENDPOINT": here.endpoint, "AWS_ENDPOINT_URL": moto},
            check=False,
            capture_output=True,
            text=True,
        )

    done = run(digest)
    assert done.stdout == f"['install'] {target}\n", done.stderr
    assert json.loads((target / "settings.json").read_text()) == {"a": 1}
    assert target.stat().st_mode & 0o777 == 0o700
    refused = run("0" * 64)
    assert refused.returncode == 1
    assert f"bundle: Changed: found the digest {digest}, expected 000" in refused.stderr


def test_keys_are_for_root_alone_and_come_from_the_secret(
    aws: Aws, moto: str, tmp_path: Path
) -> None:
    text = json.dumps({"worker-key.pem": "PRIVATE", "ca.pem": "PUBLIC"})
    client("secretsmanager", moto).create_secret(Name="perennial/lab/worker", SecretString=text)
    target = tmp_path / "run"
    boot.keys(aws, {"perennial/lab/worker": str(target)})
    boot.keys(aws, {"perennial/lab/worker": str(target)})
    assert (target / "worker-key.pem").read_text() == "PRIVATE"
    assert (target / "worker-key.pem").stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in target.iterdir()) == ["ca.pem", "worker-key.pem"]
    with pytest.raises(CallError, match=r"perennial/lab/none: GivenUp: .*ResourceNotFound"):
        boot.keys(aws, {"perennial/lab/none": str(target)})


def test_the_scheduler_puts_its_address_under_its_name(aws: Aws, moto: str) -> None:
    route = client("route53", moto)
    zone = route.create_hosted_zone(
        Name="lab.perennial",
        CallerReference="one",
        VPC={"VPCRegion": "eu-central-1", "VPCId": "vpc-12345678"},
    )["HostedZone"]["Id"].rpartition("/")[2]
    for address in ("10.0.0.7", "10.0.0.8"):
        boot.publish(aws, zone, "scheduler.lab.perennial", address)
        records = route.list_resource_record_sets(HostedZoneId=zone)["ResourceRecordSets"]
        [found] = [each for each in records if each["Type"] == "A"]
        assert found["ResourceRecords"] == [{"Value": address}]
        assert found["TTL"] == 10


def test_logs_reach_their_stream_in_order(aws: Aws, moto: str) -> None:
    named = client("logs", moto)
    named.create_log_group(logGroupName="/perennial/lab")
    entries = [
        {
            "__CURSOR": f"c{number}",
            "__REALTIME_TIMESTAMP": str(int(1e6 * NOW) + 1000 * number),
            "_SYSTEMD_UNIT": "dask-lab-cpu@i-0a.service",
            "MESSAGE": [104, 105] if number == 1 else f"line {number}",
        }
        for number in (0, 1, 2)
    ]
    [(events, cursor)] = logs.batches(iter(entries))
    assert cursor == "c2"
    for _ in range(2):
        logs.send(aws, "/perennial/lab", "cpu/i-0a", events)
    streams = named.describe_log_streams(logGroupName="/perennial/lab")["logStreams"]
    assert [each["logStreamName"] for each in streams] == ["cpu/i-0a"]
    assert [each["message"] for each in events] == [
        "dask-lab-cpu@i-0a.service: line 0",
        "dask-lab-cpu@i-0a.service: hi",
        "dask-lab-cpu@i-0a.service: line 2",
    ]


@settings(max_examples=examples(100), deadline=None)
@given(st.lists(st.integers(0, 300_000), max_size=30), st.integers(0, 3))
def test_batches_are_what_cloudwatch_takes(sizes: list[int], copies: int) -> None:
    entries = [
        {"__CURSOR": str(place), "__REALTIME_TIMESTAMP": "1795968000000000", "MESSAGE": "é" * size}
        for place, size in enumerate(sizes)
    ] + [
        {"__CURSOR": f"n{place}", "__REALTIME_TIMESTAMP": "1795968000000000", "MESSAGE": "x"}
        for place in range(700 * copies)
    ]
    found = list(logs.batches(iter(entries)))
    assert sum(len(events) for events, _ in found) == len(entries)
    for events, _ in found:
        assert 0 < len(events) <= 10_000
        assert sum(len(each["message"].encode()) + 26 for each in events) <= 1_048_576
    assert [cursor for _, cursor in found][-1:] == [each["__CURSOR"] for each in entries[-1:]]


class TestWatch:
    """What is done about each sentence of the metadata."""

    def heard(self, here: Metadata, ends: list[str]) -> watch.Watch:
        return watch.Watch(here.get, ends.append)

    def test_nothing_is_done_while_the_instance_is_in_service(self, here: Metadata) -> None:
        ends: list[str] = []
        assert not self.heard(here, ends).once()
        assert ends == []

    def test_a_group_that_removes_it_ends_it(self, here: Metadata, folder: Path) -> None:
        ends: list[str] = []
        metadata.say(folder, "autoscaling/target-lifecycle-state", "Terminated")
        assert self.heard(here, ends).once()
        assert ends == ["its Auto Scaling group removes it"]

    def test_a_spot_notice_ends_it(self, here: Metadata, folder: Path) -> None:
        ends: list[str] = []
        told = {"action": "terminate", "time": "2026-11-29T16:02:00Z"}
        metadata.say(folder, "spot/instance-action", json.dumps(told))
        assert self.heard(here, ends).once()
        assert ends == ["spot: terminate at 2026-11-29T16:02:00Z"]

    def test_a_rebalance_is_the_groups_to_answer(
        self, here: Metadata, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        ends: list[str] = []
        metadata.say(folder, "events/recommendations/rebalance", '{"noticeTime": "now"}')
        heard = self.heard(here, ends)
        assert not heard.once()
        assert not heard.once()
        assert ends == []
        assert capsys.readouterr().out.count("an interruption is likely") == 1


def test_the_device_of_a_volume_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "nvme-Amazon_Elastic_Block_Store_vol0a1b2c3d").touch()
    assert boot.device_of("vol-0a1b2c3d", str(tmp_path)) is not None
    assert boot.device_of("vol-0a1b2c3e", str(tmp_path)) is None


def test_user_data_is_base64_of_a_program_that_parses() -> None:
    text = Path(calls.__file__).read_text()
    compile(text, "user-data", "exec")
    assert len(base64.b64encode(text.encode())) < 21_848


@pytest.mark.parametrize("name", ["aws", "boot", "logs", "watch"])
def test_it_runs_in_the_python_of_older_systems(name: str) -> None:
    """Amazon Linux 2023 has Python 3.9, and nothing but the standard library."""
    source = Path(calls.__file__).with_name(f"{name}.py").read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {
        each.module.partition(".")[0]
        for each in ast.walk(tree)
        if isinstance(each, ast.ImportFrom) and each.module
    } | {
        alias.name.partition(".")[0]
        for each in ast.walk(tree)
        if isinstance(each, ast.Import)
        for alias in each.names
    }
    assert imported <= sys.stdlib_module_names | ({"perennial"} if name != "aws" else set())
