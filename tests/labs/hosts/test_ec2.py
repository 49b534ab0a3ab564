"""What boots on an instance of EC2: user data and units, up to the end that the metadata says.

Each machine is an instance: Debian with systemd, metadata at 169.254.169.254, and AWS's services of
its own. Nothing of the user data, the bundle and the units is another one than in AWS.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from perennial import authority
from perennial.platforms.ec2 import bundle, parts
from perennial.spec import ClusterSpec, loads
from tests.labs.hosts.base import CHECKOUT
from tests.labs.hosts.host import SUBNETS, Host
from tests.labs.hosts.machine import PYTHON, UnavailableError
from tests.labs.hosts.network import Network
from tests.platforms.ec2.metadata import INSTANCE

pytestmark = [pytest.mark.lab, pytest.mark.timeout(600)]

PORT = 4566
#: Metadata and services stand beyond the instance, as in AWS: rules of routes hold for them.
CLOUD = f"http://169.254.169.254:{PORT}"
FILE = f"""\
name: lab
platform: ec2
environment: {{python: {PYTHON}}}
workers: {{cpu: {{memory: 512 MiB, drain: 60 s}}}}
jupyter: null
ec2: {{region: eu-central-1}}
"""
UNIT = f"dask-lab-cpu@{INSTANCE}"

#: Makes what is there before an instance starts: the bucket, the secrets, the logs, the zone.
PREPARE = f"""
import boto3, json, sys
def client(name):
    return boto3.client(name, region_name="eu-central-1", endpoint_url="{CLOUD}",
                        aws_access_key_id="AKIATEST000000000000", aws_secret_access_key="none")
key, secrets = sys.argv[1], json.load(open("/root/secrets.json"))
s3 = client("s3")
s3.create_bucket(Bucket="bundles",
                 CreateBucketConfiguration={{"LocationConstraint": "eu-central-1"}})
s3.upload_file("/root/bundle.tar", "bundles", key)
for name, files in secrets.items():
    client("secretsmanager").create_secret(Name=name, SecretString=json.dumps(files))
client("logs").create_log_group(logGroupName="/perennial/lab")
zone = client("route53").create_hosted_zone(
    Name="lab.perennial", CallerReference="one",
    VPC={{"VPCRegion": "eu-central-1", "VPCId": "vpc-12345678"}})
print(zone["HostedZone"]["Id"].rpartition("/")[2])
"""
#: Changes a file of a secret of this machine's AWS.
REPLACE = f"""
import boto3, json, sys
secrets = boto3.client("secretsmanager", region_name="eu-central-1", endpoint_url="{CLOUD}",
                       aws_access_key_id="AKIATEST000000000000", aws_secret_access_key="none")
name, file, text = sys.argv[1:]
files = json.loads(secrets.get_secret_value(SecretId=name)["SecretString"])
secrets.put_secret_value(SecretId=name, SecretString=json.dumps(files | {{file: text}}))
"""
#: Asks this machine's AWS something.
ASK = f"""
import boto3, json, sys
client = boto3.client(sys.argv[1], region_name="eu-central-1", endpoint_url="{CLOUD}",
                      aws_access_key_id="AKIATEST000000000000", aws_secret_access_key="none")
print(json.dumps(getattr(client, sys.argv[2])(**json.loads(sys.argv[3])), default=str))
"""
BEYOND = """
ip netns add cloud
ip link add cloud0 type veth peer name cloud1 netns cloud
ip address add 169.254.169.1/24 dev cloud0
ip link set cloud0 up
ip -n cloud address add 169.254.169.254/24 dev cloud1
ip -n cloud link set cloud1 up
ip -n cloud link set lo up
"""
#: Runs before code that uses the cluster: a client, as the scaler is one.
CONNECT = """
import os, time
from distributed import Client, Security
tls = "/run/dask-perennial/lab"
security = Security(require_encryption=True, tls_ca_file=f"{tls}/ca.pem",
    tls_client_cert="/root/client.pem", tls_client_key="/root/client-key.pem")
client = Client("tls://scheduler.lab.perennial:8786", security=security, timeout=60)
def workers():
    found = client.sync(client.scheduler.identity, n_workers=-1)["workers"].items()
    return {str(worker["name"]): address for address, worker in found}
def wait_for(names):
    until = time.monotonic() + 120
    while set(workers()) != set(names):
        assert time.monotonic() < until, workers()
        time.sleep(0.2)
"""


@dataclass
class Cloud:
    """Two instances of a cluster, and what they were made of."""

    spec: ClusterSpec
    scheduler: Host
    worker: Host

    def say(self, path: str, text: str) -> None:
        """Have the worker's metadata say something."""
        self.worker.write(f"/run/metadata/latest/meta-data/{path}", text)

    def forget(self, path: str) -> None:
        """Have it say so no more."""
        self.worker.run("rm", "-f", f"/run/metadata/latest/meta-data/{path}")

    def calls(self, *operations: str) -> list[dict[str, str]]:
        """List calls that the worker's instance has made."""
        code = f"import urllib.request as r; print(r.urlopen('{CLOUD}/lab/calls').read().decode())"
        every = json.loads(self.worker.python(code))
        return [each for each in every if each["operation"] in operations]


def surround(machine: Host, address: str, target: str = "InService") -> None:
    """Put metadata and AWS's services beside a machine."""
    machine.run("sh", "-ec", BEYOND)
    machine.python(
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path; from tests.platforms.ec2 import metadata\n"
        "metadata.describe(Path('/run/metadata'), *sys.argv[2:])",
        *(str(CHECKOUT), address, target),
    )
    machine.run(
        *("systemd-run", "--unit=cloud", f"--working-directory={CHECKOUT}", "--collect"),
        *(
            "ip",
            "netns",
            "exec",
            "cloud",
            PYTHON,
            "-W",
            "ignore",
            "-m",
            "tests.labs.hosts.cloud",
            "/run/metadata",
            str(PORT),
        ),
    )
    variable = f"AWS_ENDPOINT_URL={CLOUD}"
    machine.run("systemctl", "set-environment", variable)
    machine.write(  # for the next boot
        "/etc/systemd/system.conf.d/cloud.conf", f"[Manager]\nDefaultEnvironment={variable}\n"
    )
    listening = ("ip", "netns", "exec", "cloud", "ss", "-Htln")
    wait_until(machine, lambda: f":{PORT}" in machine.run(*listening).stdout)


def start(machine: Host, spec: ClusterSpec, key: str, tls: Path) -> None:
    """Start a machine as an instance of a part, by its user data."""
    kind = next(each for each in parts.machines(spec) if each.key == key)
    made = bundle.bundle(spec, kind)
    (tls / "bundle.tar").write_bytes(made.data)
    machine.copy(tls / "bundle.tar", "/root")
    secrets = {
        f"perennial/lab/{role}": {name: (tls / name).read_text() for name in files}
        for role, files in parts.contents(spec).items()
        if role in kind.secrets
    }
    machine.write("/root/secrets.json", json.dumps(secrets))
    zone = machine.python(PREPARE, bundle.bundle_key(kind, made.digest), timeout=120).strip()
    told = {"zone": zone, "name": parts.scheduler_host(spec)} if key == "scheduler" else {}
    text = bundle.user_data(spec, kind, "bundles", made.digest, told)
    machine.write("/root/user-data", text)
    machine.run("env", f"AWS_ENDPOINT_URL={CLOUD}", "python3", "/root/user-data", timeout=120)


def wait_until(machine: Host, condition: Callable[[], object], timeout: float = 120.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        log = ("journalctl", "--no-pager", "-n", "60")
        assert time.monotonic() < deadline, machine.run(*log).stdout
        time.sleep(0.3)


def state(machine: Host, unit: str) -> str:
    return machine.run("systemctl", "is-active", unit, check=False).stdout.strip()


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    try:
        network = Network()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    spec, tls = loads(FILE), tmp_path_factory.mktemp("tls")
    authority.ensure(tls, "lab", parts.reached_by(spec, "scheduler"))
    with network:
        scheduler, worker = network.machines("sched", "worker")
        for number, machine in enumerate((scheduler, worker), 11):
            surround(machine, f"{SUBNETS['inside']}.{number}")
            # The private zone, which the scheduler's instance changes in its own AWS.
            name = parts.scheduler_host(spec)
            machine.run("sh", "-c", f"echo {SUBNETS['inside']}.11 {name} >> /etc/hosts")
        start(scheduler, spec, "scheduler", tls)
        start(worker, spec, "cpu", tls)
        for name in ("client.pem", "client-key.pem"):
            scheduler.copy(tls / name, "/root")
        for name in ("worker.pem", "worker-key.pem"):
            scheduler.copy(tls / name, "/root")
        wait_until(scheduler, lambda: state(scheduler, "dask-lab-scheduler") == "active")
        wait_until(worker, lambda: state(worker, UNIT) == "active")
        # Somebody who takes what another one has to hand over.
        scheduler.run(
            *("systemd-run", "--unit=other", PYTHON, "-P", "-m", "dask", "worker"),
            *("tls://scheduler.lab.perennial:8786", "--name", "other", "--memory-limit", "0"),
            *("--tls-ca-file", "/run/dask-perennial/lab/ca.pem"),
            *("--tls-cert", "/root/worker.pem", "--tls-key", "/root/worker-key.pem"),
            *("--nthreads", "1", "--no-dashboard", "--local-directory", "/tmp/other"),
        )
        yield Cloud(spec, scheduler, worker)


def test_it_boots_to_a_cluster_that_computes(cloud: Cloud) -> None:
    code = f"""
wait_for(["cpu-{INSTANCE}", "other"])
print(client.submit(sum, range(10), workers=[workers()["cpu-{INSTANCE}"]]).result())
"""
    assert cloud.scheduler.python(CONNECT + code, timeout=180) == "45\n"
    for machine in (cloud.scheduler, cloud.worker):
        assert state(machine, "dask-lab-boot") == "active"
        assert state(machine, "dask-lab-logs") == "active"
    assert state(cloud.worker, "dask-lab-watch") == "active"
    pid = cloud.worker.run("systemctl", "show", "--value", "-p", "MainPID", UNIT).stdout.strip()
    assert cloud.worker.run("stat", "-c", "%U", f"/proc/{pid}").stdout == "dask-lab\n"


def test_the_keys_are_in_memory_and_for_root_alone(cloud: Cloud) -> None:
    folder = "/run/dask-perennial/lab"
    listed = cloud.worker.run("stat", "-c", "%n %U %a", f"{folder}/worker-key.pem").stdout
    assert listed == f"{folder}/worker-key.pem root 600\n"
    assert cloud.worker.run("stat", "-f", "-c", "%T", folder).stdout == "tmpfs\n"
    names = cloud.worker.run("ls", folder).stdout.split()
    assert names == ["ca.pem", "worker-key.pem", "worker.pem"]
    disk = cloud.worker.run(
        *("grep", "-rlI", "PRIVATE KEY", "/etc/dask-perennial", "/opt/dask-perennial", "/var/lib"),
        check=False,
    )
    assert disk.stdout == ""


def test_renewed_keys_are_read_again(cloud: Cloud) -> None:
    place = "/run/dask-perennial/lab/worker.pem"
    before = cloud.worker.run("cat", place).stdout
    cloud.worker.python(REPLACE, "perennial/lab/worker", "worker.pem", "of another year")
    fetch = f"export AWS_ENDPOINT_URL={CLOUD}; {bundle.fetch_keys('lab')}"
    cloud.worker.run("sh", "-ec", fetch)
    assert cloud.worker.run("cat", place).stdout == "of another year"
    cloud.worker.python(REPLACE, "perennial/lab/worker", "worker.pem", before)
    cloud.worker.run("sh", "-ec", fetch)
    assert cloud.worker.run("stat", "-c", "%U %a", place).stdout == "root 600\n"
    assert cloud.worker.run("cat", place).stdout == before


def test_the_scheduler_has_put_itself_under_its_name(cloud: Cloud) -> None:
    zones = json.loads(cloud.scheduler.python(ASK, "route53", "list_hosted_zones", "{}"))[
        "HostedZones"
    ]
    given = json.dumps({"HostedZoneId": zones[0]["Id"]})
    told = cloud.scheduler.python(ASK, "route53", "list_resource_record_sets", given)
    [record] = [each for each in json.loads(told)["ResourceRecordSets"] if each["Type"] == "A"]
    assert record["Name"].rstrip(".") == parts.scheduler_host(cloud.spec)
    assert record["ResourceRecords"] == [{"Value": f"{SUBNETS['inside']}.11"}]


def test_the_group_hears_that_the_instance_has_booted(cloud: Cloud) -> None:
    [call] = cloud.calls("CompleteLifecycleAction")
    assert call["params"] == {
        "AutoScalingGroupName": "perennial-lab-cpu",
        "LifecycleHookName": bundle.LAUNCHED,
        "InstanceId": INSTANCE,
        "LifecycleActionResult": "CONTINUE",
    }


def test_logs_reach_cloudwatch(cloud: Cloud) -> None:
    def there() -> bool:
        given = json.dumps({"logGroupName": "/perennial/lab", "logStreamName": f"cpu/{INSTANCE}"})
        told = cloud.worker.python(ASK, "logs", "get_log_events", given)
        return any(f"{UNIT}.service: " in each["message"] for each in json.loads(told)["events"])

    wait_until(cloud.worker, there)


def test_tasks_do_not_reach_the_metadata(cloud: Cloud) -> None:
    code = f"""
def attempt():
    import socket
    try:
        socket.create_connection(("169.254.169.254", 80), 3).close()
    except OSError as error:
        return type(error).__name__
    return "connected"
wait_for(["cpu-{INSTANCE}", "other"])
print(client.submit(attempt, workers=[workers()["cpu-{INSTANCE}"]]).result())
"""
    assert cloud.scheduler.python(CONNECT + code, timeout=120) == "PermissionError\n"


LEAVES = f"""
def slow(path):
    import time
    with open(path, "a") as file:
        file.write("run\\n")
    time.sleep(8)
    return len(open(path).readlines())
name = "cpu-{INSTANCE}"
wait_for([name, "other"])
address = workers()[name]
kept = client.scatter(b"x" * 1000, workers=[address])
runs = "/var/lib/dask-perennial/lab/scratch/runs"
task = client.submit(slow, runs, workers=[address], allow_other_workers=True, pure=False)
open("/root/begun", "w").close()
wait_for(["other"])
print(task.result(timeout=60), len(kept.result(timeout=60)))
"""


def leave(cloud: Cloud, path: str, text: str) -> str:
    """Have work run on the worker, say that its end comes, and return what became of the work."""
    cloud.scheduler.run("rm", "-f", "/root/begun")
    cloud.worker.run("rm", "-f", "/var/lib/dask-perennial/lab/scratch/runs")
    cloud.scheduler.write("/root/leaves.py", CONNECT + LEAVES)
    cloud.scheduler.run(
        *("systemd-run", "--unit=leaves", "--collect", "--property=StandardOutput=file:/root/said"),
        *(PYTHON, "/root/leaves.py"),
    )
    begun = ("test", "-e", "/root/begun")
    wait_until(cloud.scheduler, lambda: cloud.scheduler.run(*begun, check=False).returncode == 0)
    time.sleep(1)
    cloud.say(path, text)
    wait_until(cloud.scheduler, lambda: state(cloud.scheduler, "leaves") != "active")
    return cloud.scheduler.run("cat", "/root/said").stdout


def test_a_spot_notice_drains(cloud: Cloud) -> None:
    told = json.dumps({"action": "terminate", "time": "2026-11-29T17:00:00Z"})
    assert leave(cloud, "spot/instance-action", told) == "1 1000\n"
    wait_until(cloud.worker, lambda: state(cloud.worker, UNIT) != "active")
    journal = cloud.worker.run("journalctl", "--no-pager", "-u", "dask-lab-watch").stdout
    assert "draining: spot: terminate at 2026-11-29T17:00:00Z" in journal
    # Until the group removes it there is nothing to complete.
    assert len(cloud.calls("CompleteLifecycleAction")) == 1


def boot_again(cloud: Cloud, target: str = "InService") -> None:
    """Stop the worker's instance and start it, with another AWS around it."""
    cloud.worker.stop()
    cloud.worker.switch_on()
    # It has not booted while it waits for its metadata.
    wait_until(cloud.scheduler, lambda: cloud.worker.answers)
    surround(cloud.worker, f"{SUBNETS['inside']}.12", target)
    cloud.worker.python(PREPARE, "unused", timeout=120)


def test_it_serves_again_after_a_reboot(cloud: Cloud) -> None:
    """The keys were in memory, and the group's answer is an error then."""
    boot_again(cloud)
    wait_until(cloud.worker, lambda: state(cloud.worker, UNIT) == "active")
    wait_until(cloud.worker, lambda: state(cloud.worker, "dask-lab-watch") == "active")


def test_an_instance_of_a_warm_pool_serves_once_it_is_started(cloud: Cloud) -> None:
    """Before, it is ready and has neither a worker nor keys."""
    boot_again(cloud, "Warmed:Stopped")
    wait_until(cloud.worker, lambda: cloud.calls("CompleteLifecycleAction"))
    time.sleep(10)  # two looks
    assert len(cloud.calls("CompleteLifecycleAction")) == 1
    assert state(cloud.worker, "dask-lab-boot") == "activating"
    assert {state(cloud.worker, unit) for unit in (UNIT, "dask-lab-watch")} == {"inactive"}
    assert cloud.worker.run("test", "-e", "/run/dask-perennial/lab", check=False).returncode == 1
    boot_again(cloud)
    wait_until(cloud.worker, lambda: state(cloud.worker, "dask-lab-boot") == "active")
    code = f'wait_for(["cpu-{INSTANCE}", "other"])'
    cloud.scheduler.python(CONNECT + code, timeout=180)
    assert len(cloud.calls("CompleteLifecycleAction")) == 1
    wait_until(cloud.worker, lambda: state(cloud.worker, "dask-lab-watch") == "active")


def test_a_group_that_removes_it_waits_for_the_drain(cloud: Cloud) -> None:
    before = len(cloud.calls("CompleteLifecycleAction"))
    assert leave(cloud, "autoscaling/target-lifecycle-state", "Terminated") == "1 1000\n"
    wait_until(cloud.worker, lambda: len(cloud.calls("CompleteLifecycleAction")) > before)
    done = cloud.calls("CompleteLifecycleAction")[-1]["params"]
    assert done["LifecycleHookName"] == bundle.TERMINATING
    assert done["LifecycleActionResult"] == "CONTINUE"
    wait_until(cloud.worker, lambda: state(cloud.worker, "dask-lab-watch") == "inactive")
    journal = cloud.worker.run("journalctl", "--no-pager", "-u", "dask-lab-watch").stdout
    drained, completed = journal.rindex("drained in"), journal.rindex("may go on")
    assert drained < completed
