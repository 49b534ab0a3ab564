"""What instances fetch and run: exact text for a whole cluster, and what holds for every one.

``PERENNIAL_REWRITE=1 python -m pytest tests/platforms/ec2`` writes the expected files anew.
"""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from perennial.errors import PerennialError, SpecError
from perennial.platforms.ec2 import bundle, parts, rights
from perennial.platforms.ec2.capacity import architecture, capacity, fitting
from perennial.platforms.ec2.costs import estimate
from perennial.platforms.ec2.deployer import Ec2Deployer, kept
from perennial.services.values import PLACEHOLDERS
from perennial.spec import ClusterSpec, loads
from perennial.spec.units import GIB
from tests.examples import examples

CASE = Path(__file__).parent / "cases" / "full"
EXAMPLE = Path(__file__).parents[3] / "examples" / "ec2.yaml"
LEAST: dict[str, Any] = {
    "name": "lab",
    "platform": "ec2",
    "environment": {"python": "/opt/lab/bin/python"},
    "workers": {"cpu": {"count": 2}},
    "ec2": {"region": "eu-central-1"},
}
TOLD = {"volume": "vol-1", "zone": "Z1", "role": "arn:aws:iam::1:role/scaler", "export": "fs-1"}
NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,12}[a-z0-9])?", fullmatch=True)
#: The digest of a bundle names the source of the programs in it.
_DIGEST = re.compile(r"[0-9a-f]{64}")


def spec_of(**changes: Any) -> ClusterSpec:
    return loads(yaml.safe_dump({**LEAST, **changes}))


def with_ec2(**more: Any) -> ClusterSpec:
    return spec_of(ec2={**LEAST["ec2"], **more})


def of_cpu(**more: Any) -> dict[str, Any]:
    """The platform's options, with something for one group."""
    return {**LEAST["ec2"], "workers": {"cpu": more}}


def test_a_whole_cluster() -> None:
    """Units and configuration to the letter; the programs are tested for what they do."""
    spec = loads((CASE / "cluster.yaml").read_text())
    found = {
        path: text
        for path, text in Ec2Deployer("ec2").render(spec, "ec2", Path("lab")).files.items()
        if not path.endswith("user-data")
    }
    for machine in parts.machines(spec):
        made = bundle.bundle(spec, machine)
        told = bundle.settings(spec, machine, TOLD)
        text = bundle.user_data(spec, machine, "bucket", made.digest, told)
        call = text.rstrip().rpartition("\n")[2]
        found[f"{machine.key}/user-data.call"] = _DIGEST.sub("DIGEST", call) + "\n"
    if os.environ.get("PERENNIAL_REWRITE"):
        for path, text in found.items():
            (CASE / path).parent.mkdir(parents=True, exist_ok=True)
            (CASE / path).write_text(text)
    there = {str(each.relative_to(CASE)): each for each in CASE.rglob("*") if each.is_file()}
    assert there.keys() - {"cluster.yaml"} == found.keys()
    for path, text in found.items():
        assert there[path].read_text() == text, path


@settings(max_examples=examples(60), deadline=None)
@given(NAMES, NAMES, st.integers(1, 8), st.sampled_from(["512 MiB", "4 GiB", "100 GiB"]))
def test_every_bundle_is_whole_small_and_the_same_twice(
    cluster: str, group: str, processes: int, memory: str
) -> None:
    workers = {group: {"processes": processes, "memory": memory, "scale": {"min": 0, "max": 3}}}
    try:
        spec = spec_of(name=cluster, workers=workers)
    except SpecError:
        return  # a reserved name, or more memory than an instance has
    for machine in parts.machines(spec):
        made = bundle.bundle(spec, machine)
        assert made.data == bundle.bundle(spec, machine).data
        told = bundle.settings(spec, machine, TOLD)
        text = bundle.user_data(spec, machine, "b" * 63, made.digest, told)
        assert len(text.encode()) <= bundle.LARGEST
        compile(text, "user-data", "exec")
        with tarfile.open(fileobj=io.BytesIO(made.data)) as archive:
            members = archive.getnames()
        facts = json.loads(made.files["bundle.json"])
        units = [facts["units"]["boot"], *facts["units"]["services"]]
        assert {f"root/etc/systemd/system/{unit}" for unit in units} <= {*members}
        for content in made.files.values():
            assert not any(mark.encode() in content for mark in PLACEHOLDERS)
            assert b"PRIVATE KEY" not in content


def test_requirements_bring_our_own_wheel_and_what_the_scaler_needs() -> None:
    plain = spec_of(environment={"requirements": ["dask==2026.8.0"]})
    lines = parts.requirements_of(plain).splitlines()
    assert lines[0] == "dask==2026.8.0"
    assert re.fullmatch(r"dask-perennial\[jupyter\] @ file:///opt/dask-perennial/lab/.*", lines[1])
    assert lines[1].endswith(".whl")
    assert lines[2:] == []
    scaled = spec_of(
        environment={"requirements": [f"dask==2026.8.0 --hash=sha256:{'0' * 64}", "boto3==1.40.1"]},
        workers={"cpu": {"scale": {"min": 0, "max": 2}}},
    )
    text = parts.requirements_of(scaled)
    assert "boto3>=" not in text
    assert text.count("--hash=sha256:") == 2
    [machine, _] = parts.machines(plain)
    assert any(name.endswith(".whl") for name in bundle.bundle(plain, machine).files)


def test_user_data_that_ec2_would_not_take_is_refused() -> None:
    spec = spec_of()
    [machine, _] = parts.machines(spec)
    with pytest.raises(PerennialError, match=r"lab: found .* bytes of user data for scheduler"):
        bundle.user_data(spec, machine, "bucket", "0" * 64, {"name": "x" * 16_000})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"environment": {}},
            "environment: found an empty mapping; allowed: python or requirements",
        ),
        (
            {"ec2": {"region": "eu-central-1", "workers": {"gpu": {}}}},
            "ec2.workers.gpu: .*allowed: names of groups: cpu; correct the name",
        ),
        (
            {
                "workers": {"cpu": {"memory": "16 GiB"}},
                "ec2": of_cpu(instance_types=["m7i.xlarge"]),
            },
            "workers.cpu.memory: found '16 GiB'; allowed: at most .* for a process on m7i.xlarge",
        ),
        (
            {"ec2": of_cpu(instance_types=["m7i.large", "m7g.large"])},
            "instance_types: .*allowed: types of one architecture",
        ),
        (
            {"ec2": of_cpu(policies=["arn:aws:iam::aws:policy/A"])},
            "policies: .*allowed: none without metadata; write metadata: true",
        ),
        (
            {"ec2": {"region": "eu-central-1", "image": "ubuntu"}},
            "ec2.image: found 'ubuntu'; allowed: an AMI such as",
        ),
        (
            {"ec2": of_cpu(warm={}, spot={})},
            "workers.cpu.warm: .*allowed: none for a group with spot; remove warm or spot",
        ),
        (
            {"ec2": of_cpu(warm={"min": 3, "max_prepared": 2})},
            "cpu.warm.max_prepared: found 2; allowed: min, 3, or more; raise it",
        ),
        (
            {"ec2": {"region": "eu-central-1", "network": {"nat": "none", "endpoints": True}}},
            "ec2.network.nat: found 'none'; allowed: single or per_zone .*; write nat: single: ",
        ),
        ({"ec2": of_cpu(warm={"min": 0})}, "cpu.warm.min: found 0; allowed: .*1"),
        ({"workers": {"cpu": {"memory": "4 TiB"}}}, "memory that an instance of r7i has"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as raised:
        spec_of(**changes)
    assert re.search(message, str(raised.value)), raised.value
    assert all(len(line) < 400 for line in str(raised.value).splitlines())


def test_what_an_instance_has() -> None:
    assert capacity("m7i.xlarge") is not None
    known = ("c7i.2xlarge", "m6g.large", "t3.medium", "r7a.xlarge")
    assert [(has.threads, has.memory // GIB) for each in known if (has := capacity(each))] == [
        (8, 16),
        (2, 8),
        (2, 4),
        (4, 32),
    ]
    assert capacity("c5n.xlarge") is None
    assert capacity("p4d.24xlarge") is None
    graviton = ("m7g.large", "c6gn.large", "g5g.xlarge", "a1.large", "im4gn.large")
    assert {architecture(each) for each in graviton} == {"arm64"}
    assert {architecture(each) for each in ("m7i.large", "g5.xlarge", "p4d.24xlarge")} == {"x86_64"}


@settings(max_examples=examples(200), deadline=None)
@given(st.integers(1, 96), st.integers(1, 700))
def test_a_type_that_is_chosen_is_large_enough(threads: int, gib: int) -> None:
    found = fitting(threads, gib * GIB)
    largest = capacity("r7i.24xlarge")
    assert largest is not None
    if found is None:
        assert largest.usable < gib * GIB
        return
    has = capacity(found)
    assert has is not None
    assert has.threads >= threads
    assert has.usable >= gib * GIB


def test_images_follow_the_processor() -> None:
    spec = with_ec2(workers={"cpu": {"instance_types": ["m7g.large"]}})
    options = spec.options
    assert "/arm64/" in options.image_of(options.group("cpu"), "m7g.large")
    assert "/amd64/" in options.image_of(options.scheduler, "m7i.large")
    own = with_ec2(image="ami-0a1b2c3d", workers={"cpu": {"image": "ami-11111111"}}).options
    assert own.image_of(own.group("cpu"), "m7i.large") == "ami-11111111"
    assert own.image_of(own.scheduler, "m7i.large") == "ami-0a1b2c3d"


def test_rights_name_what_they_are_for() -> None:
    spec = spec_of(workers={"cpu": {"scale": {"min": 0, "max": 2}}, "gpu": {}})
    statements = [
        *rights.instance("cpu", "arn:aws:s3:::b", ["arn:secret"], "arn:logs"),
        *rights.scheduler(spec, "arn:zone", "arn:volume", "arn:scaler"),
        *rights.worker(spec, "cpu"),
        *rights.scaler(spec),
    ]
    wide = {action for each in statements if "*" in each.resources for action in each.actions}
    services = {each.partition(":")[0] for each in wide}
    assert services == {"ec2messages", "ssm", "ssmmessages", "autoscaling"}
    assert {each for each in wide if each.startswith("autoscaling:")} == {
        "autoscaling:DescribeAutoScalingGroups"
    }
    _, size = rights.scaler(spec)
    assert "autoscaling:SetDesiredCapacity" in size.actions
    named = [arn.rpartition("/")[2] for arn in size.resources]
    assert named == ["perennial-lab-cpu", "perennial-lab-gpu"]
    assert rights.partition("cn-north-1") == "aws-cn"
    assert rights.partition("us-gov-west-1") == "aws-us-gov"


def test_a_month_is_estimated_from_its_parts() -> None:
    """By hand: 730 h of m7i.large and of m7i.xlarge, disks, a NAT gateway, and what is smaller."""
    spec = spec_of(
        workers={"cpu": {"threads": 4, "memory": "14 GiB", "scale": {"min": 1, "max": 3}}},
        jupyter=None,
    )
    found = estimate(spec)
    first = 730 * 0.1008 + 30 * 0.08 + 20 * 0.08
    member = 730 * 0.2016 + 30 * 0.08
    rest = 0.5 + 3 * 0.4 + 730 * 0.045
    assert found.least == pytest.approx(first + member + rest)
    assert found.most == pytest.approx(first + 3 * member + rest)
    assert str(found).startswith("about 262 to 561 USD a month by the list prices of us-east-1 in ")
    unknown = estimate(with_ec2(scheduler={"instance_type": "p4d.24xlarge"}))
    assert unknown.unknown == ("p4d.24xlarge",)
    assert "without p4d.24xlarge" in str(unknown)
    vpc = {"vpc": "vpc-0a1b2c3d", "subnets": ["subnet-0a1b2c3d"]}
    assert estimate(with_ec2()).least - estimate(with_ec2(network=vpc)).least == pytest.approx(
        730 * 0.045
    )


def test_a_warm_pool_costs_its_disks() -> None:
    workers = {"cpu": {"threads": 4, "memory": "14 GiB", "scale": {"min": 1, "max": 9}}}
    plain = estimate(spec_of(workers=workers))
    disk = 50 * 0.08

    def costs(**warm: int) -> tuple[float, float]:
        own = estimate(spec_of(workers=workers, ec2=of_cpu(warm=warm, disk="50 GiB")))
        one, other = plain.least + 20 * 0.08, plain.most + 9 * 20 * 0.08
        return (own.least - one) / disk, (own.most - other) / disk

    assert costs() == pytest.approx((1, 1))
    assert costs(min=3) == pytest.approx((3, 3))
    # As many as members leave of eight, and two at least.
    assert costs(min=2, max_prepared=8) == pytest.approx((7, 2))


def test_a_bundle_does_not_depend_on_the_warm_pool() -> None:
    """Else its instances would be replaced for it."""
    plain, warm = spec_of(), spec_of(ec2=of_cpu(warm={"min": 2}))
    for one, other in zip(parts.machines(plain), parts.machines(warm), strict=True):
        assert bundle.bundle(plain, one).data == bundle.bundle(warm, other).data


def test_what_stays_is_said() -> None:
    assert len(kept(with_ec2(notebooks={}, logs={"keep": True}))) == 3
    assert kept(with_ec2(scheduler={"keep_volume": False})) == []


def test_the_example_is_valid() -> None:
    spec = loads(EXAMPLE.read_text())
    assert spec.options.types("cpu", spec.workers["cpu"]) == ("m7i.xlarge",)
