"""A cluster on EC2 through its life: the real command line and engine, on moto's AWS."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from perennial.platforms.ec2 import bundle
from tests.homes import PERENNIAL, run
from tests.labs.aws.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.smoke, pytest.mark.timeout(900)]

FILE = """\
name: lab
platform: ec2
environment: {python: /opt/lab/bin/python}
workers:
  cpu: {threads: 4, memory: 14 GiB, scale: {min: 1, max: 4}}
  batch: {count: 2, threads: 2, memory: 6 GiB}
ec2:
  region: eu-central-1
  tags: {cost-centre: physics}
  alarms: {topic: "arn:aws:sns:eu-central-1:123456789012:alarms"}
  scheduler: {keep_volume: false}
  workers:
    batch: {instance_types: [m7i.large, m6i.large], spot: {base: 1}}
"""
GROUPS = {"perennial-lab-scheduler", "perennial-lab-cpu", "perennial-lab-batch"}


@dataclass
class Operator:
    """Somebody with a home, an account, and a cluster file."""

    lab: Lab
    home: Path

    def write(self, text: str = FILE, **ec2: Any) -> None:
        """Write the cluster file, with other options of the platform."""
        tree = yaml.safe_load(text)
        tree["ec2"] |= ec2
        (self.home / "cluster.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))

    def run(self, *words: str, code: int = 0) -> str:
        """Run a command of ours, without what it says of each resource."""
        own = {"HOME": str(self.home), "XDG_STATE_HOME": str(self.home / "s"), "COLUMNS": "200"}
        environment = {**self.lab.environment_of(self.home / "states"), **own}
        environment.pop("PULUMI_HOME", None)
        said = run(
            *(PERENNIAL, *words), environment=environment, code=code, folder=self.home, timeout=500
        )
        lines = said.splitlines()
        return "\n".join(line for line in lines if not re.match(r"lab: .*\blab-", line))

    def groups(self) -> dict[str, Any]:
        """Describe the Auto Scaling groups."""
        listed = self.lab.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        return {each["AutoScalingGroupName"]: each for each in listed}

    def template(self, name: str) -> dict[str, Any]:
        """Describe what instances of a part are launched from."""
        told = self.lab.client("ec2").describe_launch_template_versions(
            LaunchTemplateName=name, Versions=["$Latest"]
        )
        found: dict[str, Any] = told["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        return found


@pytest.fixture(scope="module")
def operator(aws_server: Lab, tmp_path_factory: pytest.TempPathFactory) -> Operator:
    if aws_server.engine is None:
        pytest.skip("Pulumi's engine is not there")
    aws_server.reset()
    return Operator(aws_server, tmp_path_factory.mktemp("home"))


def test_the_first_plan_makes_nothing(operator: Operator) -> None:
    operator.write()
    others = operator.lab.leftovers()
    said = operator.run("plan", "-f", "cluster.yaml")
    for part in ("certificates", "secrets", "network", "scheduler", "cpu", "batch", "alarms"):
        assert f"+ create  {part}" in said
    assert operator.lab.leftovers() == others


def test_up_makes_what_the_file_says(operator: Operator) -> None:
    said = operator.run("up", "-f", "cluster.yaml", "--yes")
    assert "lab is up: " in said
    groups = operator.groups()
    assert groups.keys() == GROUPS
    cpu, batch = groups["perennial-lab-cpu"], groups["perennial-lab-batch"]
    assert (cpu["MinSize"], cpu["DesiredCapacity"], cpu["MaxSize"]) == (0, 1, 4)
    assert (batch["MinSize"], batch["DesiredCapacity"], batch["MaxSize"]) == (0, 2, 2)
    assert cpu["NewInstancesProtectedFromScaleIn"]
    assert [each["ProcessName"] for each in cpu["SuspendedProcesses"]] == ["AZRebalance"]
    # moto keeps this policy, and does not tell it.
    [made] = [
        each.params
        for each in operator.lab.calls()
        if each.operation == "CreateAutoScalingGroup" and "batch" in str(each.params)
    ]
    policy = made["MixedInstancesPolicy"]
    types = [each["InstanceType"] for each in policy["LaunchTemplate"]["Overrides"]]
    assert types == ["m7i.large", "m6i.large"]
    assert policy["InstancesDistribution"]["OnDemandBaseCapacity"] == 1
    hooks = operator.lab.client("autoscaling").describe_lifecycle_hooks(
        AutoScalingGroupName="perennial-lab-cpu"
    )["LifecycleHooks"]
    assert {each["LifecycleTransition"] for each in hooks} == {
        "autoscaling:EC2_INSTANCE_LAUNCHING",
        "autoscaling:EC2_INSTANCE_TERMINATING",
    }


def test_instances_are_private_and_encrypted(operator: Operator) -> None:
    for name in GROUPS:
        made = operator.template(name)
        assert made["MetadataOptions"]["HttpTokens"] == "required"
        assert made["MetadataOptions"]["HttpPutResponseHopLimit"] == 1
        [interface] = made["NetworkInterfaces"]
        assert interface["AssociatePublicIpAddress"] is False
        [disk] = made["BlockDeviceMappings"]
        assert (disk["Ebs"]["VolumeType"], disk["Ebs"]["Encrypted"]) == ("gp3", True)
    rules = operator.lab.client("ec2").describe_security_group_rules()["SecurityGroupRules"]
    into = [each for each in rules if not each["IsEgress"]]
    assert all(each.get("CidrIpv4") != "0.0.0.0/0" for each in into)
    ports = {(each["FromPort"], each["ToPort"]) for each in into}
    assert ports == {(8786, 8786), (40000, 40003)}


def test_each_role_reads_its_own_secret(operator: Operator) -> None:
    listed = operator.lab.client("secretsmanager").list_secrets()["SecretList"]
    read = operator.lab.client("secretsmanager").get_secret_value
    texts = {each["Name"]: read(SecretId=each["Name"])["SecretString"] for each in listed}
    found = {name: json.loads(text) for name, text in texts.items()}
    assert {name: sorted(files) for name, files in found.items()} == {
        "perennial/lab/client": ["ca.pem", "client-key.pem", "client.pem"],
        "perennial/lab/jupyter": ["jupyter-key.pem", "jupyter-token", "jupyter.pem"],
        "perennial/lab/scheduler": ["ca.pem", "scheduler-key.pem", "scheduler.pem"],
        "perennial/lab/worker": ["ca.pem", "worker-key.pem", "worker.pem"],
    }
    iam = operator.lab.client("iam")
    names = [each["RoleName"] for each in iam.list_roles()["Roles"]]
    [role] = [each for each in names if each.startswith("perennial-lab-cpu-")]
    policy = iam.get_role_policy(RoleName=role, PolicyName="cpu")["PolicyDocument"]
    text = json.dumps(policy)
    assert "perennial/lab/worker" in text
    assert "perennial/lab/scheduler" not in text
    assert "perennial/lab/jupyter" not in text


def test_everything_that_can_has_the_tags(operator: Operator) -> None:
    made = [each for each in operator.lab.leftovers() if each.kind not in UNTAGGED]
    for each in made:
        assert each.tags.get("perennial:cluster") == "lab", each
        assert each.tags.get("cost-centre") == "physics", each


#: What AWS itself makes, or what knows no tags.
UNTAGGED = {"NetworkInterfaces", "Volumes", "Targets", "Records", "InstanceProfiles"}
UNTAGGED |= {"MetricFilters"}


def test_an_unchanged_up_changes_nothing(operator: Operator) -> None:
    said = operator.run("up", "-f", "cluster.yaml", "--yes")
    assert re.search(r"lab is up: \d+ unchanged", said), said


def test_a_warm_pool_comes_and_goes_and_restarts_nobody(operator: Operator) -> None:
    def instances() -> set[str]:
        return {
            one["InstanceId"] for each in operator.groups().values() for one in each["Instances"]
        }

    before = instances()
    operator.write(workers={**yaml.safe_load(FILE)["ec2"]["workers"], "cpu": {"warm": {"min": 2}}})
    said = operator.run("plan", "-f", "cluster.yaml")
    assert re.search(r"~ update  cpu +warmPool$", said, re.M), said
    operator.run("up", "-f", "cluster.yaml", "--yes")
    pool = operator.groups()["perennial-lab-cpu"]["WarmPoolConfiguration"]
    assert pool["PoolState"] == "Stopped"
    assert pool["MinSize"] == pool["MaxGroupPreparedCapacity"] == 2
    operator.lab.client("autoscaling").delete_warm_pool(AutoScalingGroupName="perennial-lab-cpu")
    assert re.search(r"cpu +warmPool", operator.run("refresh", "-f", "cluster.yaml"))
    operator.run("up", "-f", "cluster.yaml", "--yes")
    assert operator.groups()["perennial-lab-cpu"]["WarmPoolConfiguration"] == pool
    operator.write()
    assert re.search(r"~ update  cpu +warmPool$", operator.run("plan", "-f", "cluster.yaml"), re.M)
    operator.run("up", "-f", "cluster.yaml", "--yes")
    assert "WarmPoolConfiguration" not in operator.groups()["perennial-lab-cpu"]
    assert instances() == before


def test_status_lists_instances(operator: Operator) -> None:
    told = json.loads(operator.run("status", "-c", "lab", "--json"))
    names = [each["service"] for each in told["services"]]
    assert [name.rpartition("-i-")[0] or name for name in names] == [
        "scheduler",
        "cpu",
        "batch",
        "batch",
    ]
    assert {each["state"] for each in told["services"]} == {"RUNNING"}


def test_logs_come_from_cloudwatch(operator: Operator) -> None:
    [instance] = operator.groups()["perennial-lab-cpu"]["Instances"]
    stream = f"cpu/{instance['InstanceId']}"
    logs = operator.lab.client("logs")
    logs.create_log_stream(logGroupName="/perennial/lab", logStreamName=stream)
    events = [{"timestamp": 1_795_968_000_000 + n, "message": f"line {n}"} for n in range(3)]
    logs.put_log_events(logGroupName="/perennial/lab", logStreamName=stream, logEvents=events)
    for words in ((), ("cpu",), (f"cpu-{instance['InstanceId']}",)):
        said = operator.run("logs", "-c", "lab", "-n", "2", *words)
        assert [line.rpartition("line ")[2] for line in said.splitlines()] == ["1", "2"]
    refused = operator.run("logs", "-c", "lab", "gpu", code=1)
    assert "lab has no service or group 'gpu'; it has scheduler, cpu, batch, jupyter" in refused


def test_a_size_belongs_to_whoever_sets_it(operator: Operator) -> None:
    assert "batch 2 → 3" in operator.run("scale", "batch=3", "-c", "lab")
    operator.lab.client("autoscaling").set_desired_capacity(
        AutoScalingGroupName="perennial-lab-cpu", DesiredCapacity=3, HonorCooldown=False
    )
    said = operator.run("plan", "-f", "cluster.yaml")
    # What the scaler sizes is the scaler's; a fixed size is the file's.
    assert "~ update  batch        size 3 → 2, maxSize; drained first" in said
    assert "cpu" not in said
    assert "batch 3 → 1" in operator.run("scale", "batch=1", "-c", "lab")
    assert operator.groups()["perennial-lab-batch"]["DesiredCapacity"] == 1


def test_another_environment_replaces_instances_and_says_what_that_costs(
    operator: Operator,
) -> None:
    before = {each["InstanceId"] for each in operator.groups()["perennial-lab-cpu"]["Instances"]}
    operator.write(FILE.replace("/opt/lab/bin/python", "/opt/new/bin/python"))
    said = operator.run("plan", "-f", "cluster.yaml")
    assert "replace scheduler    each instance: another bundle; ALL RUNNING WORK" in said
    assert "replace cpu          each instance: another bundle; drained first" in said
    assert operator.groups()["perennial-lab-cpu"]["Instances"][0]["InstanceId"] in before
    operator.run("up", "-f", "cluster.yaml", "--yes")
    after = {each["InstanceId"] for each in operator.groups()["perennial-lab-cpu"]["Instances"]}
    assert not before & after


def test_restart_replaces_the_instances_of_a_group(operator: Operator) -> None:
    before = {each["InstanceId"] for each in operator.groups()["perennial-lab-cpu"]["Instances"]}
    operator.run("restart", "cpu", "-c", "lab")
    after = {each["InstanceId"] for each in operator.groups()["perennial-lab-cpu"]["Instances"]}
    assert not before & after


def test_restart_of_a_service_reads_its_keys_again(operator: Operator) -> None:
    said = operator.run("restart", "scaler", "-c", "lab")
    (scheduler,) = operator.groups()["perennial-lab-scheduler"]["Instances"]
    assert "lab: scaler restarted" in said
    restart = "systemctl restart --no-block dask-lab-scaler.service"
    asked = [
        (script, scheduler["InstanceId"] in command["InstanceIds"])  # moto names all that run
        for command in operator.lab.client("ssm").list_commands()["Commands"]
        for script in command["Parameters"]["commands"]
        if restart in script
    ]
    assert asked == [(f"{bundle.fetch_keys('lab')} && {restart}", True)]


def test_doctor_finds_what_is_missing(operator: Operator) -> None:
    assert "ok       groups: cpu: " in operator.run("doctor", "-c", "lab")
    scaling = operator.lab.client("autoscaling")
    scaling.delete_auto_scaling_group(AutoScalingGroupName="perennial-lab-batch", ForceDelete=True)
    said = operator.run("doctor", "-c", "lab", code=1)
    assert "error    groups: batch: no Auto Scaling group perennial-lab-batch" in said
    operator.run("up", "-f", "cluster.yaml", "--yes")
    assert operator.groups().keys() == GROUPS


@pytest.mark.parametrize(
    ("ec2", "line"),
    [
        (
            {"network": {"vpc": "vpc-0a1b2c3d", "subnets": ["subnet-0a1b2c3d"]}},
            "network.vpc: no VPC vpc-0a1b2c3d in eu-central-1",
        ),
        ({"image": "ami-0a1b2c3d"}, "image: ami-0a1b2c3d is not in the region eu-central-1"),
        (
            {"scheduler": {"instance_type": "m99.large"}},
            "ec2.scheduler.instance_type: m99.large is not offered in eu-central-1a",
        ),
        ({"network": {"zones": ["g"]}}, "network.zones: found g; allowed in eu-central-1"),
        (
            {"scheduler": {"volume_id": "vol-0a1b2c3d"}},
            "ec2.scheduler.volume_id: vol-0a1b2c3d is not in the region eu-central-1; correct it",
        ),
    ],
)
def test_what_aws_knows_to_be_wrong_is_said_before_anything_is_made(
    operator: Operator, ec2: dict[str, Any], line: str
) -> None:
    operator.write(**ec2)
    others = operator.lab.leftovers()
    said = operator.run("up", "-f", "cluster.yaml", "--yes", code=1)
    assert line in said
    assert "Traceback" not in said
    assert operator.lab.leftovers() == others


def test_what_would_grow_beyond_a_quota_is_refused(operator: Operator) -> None:
    operator.write(FILE.replace("max: 4", "max: 100"))
    said = operator.run("up", "-f", "cluster.yaml", "--yes", code=1)
    wanted = "scheduler, cpu, batch: up to 404 vCPUs; allowed: 256 by the quota Running On-Demand"
    assert f"lab: {wanted} Standard instances (L-1216C47A) in eu-central-1; raise it in" in said
    assert operator.groups()["perennial-lab-cpu"]["MaxSize"] == 4
    said = operator.run("up", "-f", "cluster.yaml", "--yes", "--force")
    assert operator.groups()["perennial-lab-cpu"]["MaxSize"] == 100
    # It is not asked again for what it may do already.
    assert "lab is up: " in operator.run("up", "-f", "cluster.yaml", "--yes")


def test_down_leaves_nothing_of_ours_and_all_of_others(operator: Operator) -> None:
    ec2 = operator.lab.client("ec2")
    other = ec2.create_vpc(CidrBlock="10.99.0.0/16")["Vpc"]["VpcId"]
    said = operator.run("down", "-c", "lab", "--force", "--purge")
    assert "lab is down" in said
    assert [each.id for each in operator.lab.leftovers()] == [other]
