"""From a bare instance to its services, at each boot. Standard library alone; runs as root.

Runs in the folder of the bundle. `settings.json` there is what the user data says to the instance,
and `bundle.json` what is the same for each one of a group. Run again, it does what is missing.
"""

from __future__ import annotations

import json
import os
import pathlib
import pwd
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from perennial.platforms.ec2.instance.aws import Aws, CallError, Metadata, patiently
from perennial.platforms.ec2.instance.watch import AUTOSCALING, LOOK, STATE

HERE = pathlib.Path()
UNITS = pathlib.Path("/etc/systemd/system")
#: Seconds for making an environment, and for a volume or a state to appear.
MAKING, APPEARS = 1800.0, 120.0
#: Priority of the first rule that keeps a user from the metadata; before all routes.
FENCE = 100
EC2 = "2016-11-15"
#: How a target state begins that is one of a warm pool, and attempts to say "in service".
WARMED, TRIES = "Warmed:", 24


def install(bundle: Mapping[str, Any]) -> None:
    """Have systemd run this at each boot, and now."""
    unit = bundle["units"]["boot"]
    place = UNITS / unit
    place.write_text((HERE / "root" / "etc/systemd/system" / unit).read_text())
    _run("systemctl", "daemon-reload")
    _run("systemctl", "enable", unit)
    _run("systemctl", "start", "--no-block", unit)


def boot(bundle: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Bring the instance to where its services run."""
    metadata = Metadata()
    aws = Aws(metadata)
    instance, address = metadata.wanted("instance-id"), metadata.wanted("local-ipv4")
    if volume := settings.get("volume"):
        mount(aws, instance, volume, bundle["volume"])
    for place, export in settings.get("mounts", {}).items():
        mount_share(export, place)
    write(bundle["mark"], address, settings.get("files", {}))
    _run("systemd-sysusers")
    _run("systemctl", "daemon-reload")
    environment(bundle["environment"])
    is_member, answer = "launched" in bundle, partial(complete, aws, bundle, instance)
    if is_member:
        wait_in_pool(metadata, answer)
    keys(aws, bundle["secrets"])
    own(bundle.get("owned", {}))
    fence(bundle.get("fenced", []))
    start(bundle["units"], instance)
    if name := settings.get("name"):
        publish(aws, settings["zone"], name, address)
    if is_member:
        confirm(answer)


def write(mark: str, address: str, more: Mapping[str, str]) -> None:
    """Write the units and the configuration, with the address of this instance in them."""
    root = HERE / "root"
    found = {
        f"/{source.relative_to(root)}": source.read_text()
        for source in sorted(root.rglob("*"))
        if source.is_file()
    }
    for path, text in {**found, **more}.items():
        target = pathlib.Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace(mark, address))
        target.chmod(0o644)


def wait_in_pool(metadata: Metadata, answer: Callable[[], bool]) -> None:
    """Wait while the group keeps the instance in its warm pool, where the group stops it.

    The next boot is another run of this. The metadata may say so for a moment longer then, and at
    the first boot nothing for a moment.
    """
    answered, silent = False, time.monotonic() + APPEARS
    while True:
        state = patiently(STATE, lambda: metadata.get(STATE) or "")
        if not state.startswith(WARMED) and (state or time.monotonic() > silent):
            return
        if state and not answered and (answered := answer()):
            print("ready for the warm pool; the group stops this instance", flush=True)
        time.sleep(LOOK)


def confirm(answer: Callable[[], bool]) -> None:
    """Say to the group that the instance is in service.

    One that starts from a warm pool may be here before its group waits for it. After a reboot no
    group does.
    """
    for _ in range(TRIES):
        if answer():
            return
        time.sleep(LOOK)


def keys(aws: Aws, secrets: Mapping[str, str]) -> None:
    """Write what each secret holds into a folder in memory, for root alone."""
    for name, folder in secrets.items():
        found = patiently(name, partial(_secret, aws, name))
        place = pathlib.Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        place.chmod(0o711)
        for file, text in found.items():
            made = os.open(place / f".{file}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with open(made, "w") as opened:
                opened.write(text)
            (place / f".{file}").replace(place / file)


def _secret(aws: Aws, name: str) -> dict[str, str]:
    answer = aws.json("secretsmanager", "secretsmanager.GetSecretValue", {"SecretId": name})
    found: dict[str, str] = json.loads(answer["SecretString"])
    return found


def environment(wanted: Mapping[str, Any]) -> None:
    """Make the Python environment from the requirements, unless the image has one."""
    folder = pathlib.Path(wanted.get("folder") or "/")
    whole = folder / ".whole"
    if not wanted.get("folder") or whole.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    python = wanted["python"]
    if subprocess.run([python, "-c", "import ensurepip"], check=False).returncode:
        # Debian and Ubuntu have it in a package of its own.
        _run("apt-get", "update")
        _run("apt-get", "install", "--yes", "--no-install-recommends", "python3-venv")
    _run(python, "-m", "venv", str(folder))
    pip = [str(folder / "bin/python"), "-m", "pip", "install", "--disable-pip-version-check"]
    _run(*pip, *wanted["options"], "--requirement", "requirements.txt")
    whole.touch()


def own(folders: Mapping[str, str]) -> None:
    """Make folders that systemd does not make, and give them to their users."""
    for path, user in folders.items():
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
        shutil.chown(path, user, user)
        os.chmod(path, 0o700)


def fence(users: Sequence[str]) -> None:
    """Keep users from the metadata, which gives away the rights of the instance's role."""
    for place, user in enumerate(users):
        uid = pwd.getpwnam(user).pw_uid
        for family, address in (("-4", "169.254.169.254/32"), ("-6", "fd00:ec2::254/128")):
            rule = ["pref", str(FENCE + place), "to", address, "uidrange", f"{uid}-{uid}"]
            gone = ["ip", family, "rule", "del", *rule]
            subprocess.run(gone, check=False, capture_output=True)  # of the boot before
            # Where the kernel has no IPv6, there is no way to it either.
            made = ["ip", family, "rule", "add", *rule, "prohibit"]
            subprocess.run(made, check=family == "-4", capture_output=True)


def start(units: Mapping[str, Any], instance: str) -> None:
    """Start what runs here; systemd keeps it running."""
    names = [unit.replace("@.", f"@{instance}.") for unit in units["services"]]
    _run("systemctl", "start", "--no-block", *names)


def mount(aws: Aws, instance: str, volume: str, folder: str) -> None:
    """Attach the data volume, make a file system where it has none, and mount it."""
    if os.path.ismount(folder):
        return
    device = device_of(volume)
    if device is None:
        asked = {"VolumeId": volume, "InstanceId": instance, "Device": "/dev/sdf"}
        patiently(volume, lambda: aws.query("ec2", EC2, "AttachVolume", asked))
        device = _appeared(volume)
    if subprocess.run(["blkid", device], check=False, capture_output=True).returncode == 2:
        _run("mkfs.ext4", "-q", "-L", "perennial", device)
    pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
    _run("mount", device, folder)


def device_of(volume: str, disks: str = "/dev/disk/by-id") -> str | None:
    """Return the device of an attached volume; None where it is not attached."""
    name = f"nvme-Amazon_Elastic_Block_Store_{volume.replace('-', '')}"
    path = pathlib.Path(disks, name)
    return str(path) if path.exists() else None


def _appeared(volume: str) -> str:
    until = time.monotonic() + APPEARS
    while time.monotonic() < until:
        if device := device_of(volume):
            return device
        time.sleep(1.0)
    raise CallError(volume, "NoDevice", f"attached, but no device after {APPEARS:g} s")


def mount_share(export: str, folder: str) -> None:
    """Mount a file system of EFS by its address."""
    if not os.path.ismount(folder):
        pathlib.Path(folder).mkdir(parents=True, exist_ok=True)
        options = "nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport"
        _run("mount", "-t", "nfs4", "-o", options, export, folder)


def publish(aws: Aws, zone: str, name: str, address: str) -> None:
    """Put this instance's address under the scheduler's name."""
    body = (
        '<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/">'
        "<ChangeBatch><Changes><Change><Action>UPSERT</Action><ResourceRecordSet>"
        f"<Name>{name}</Name><Type>A</Type><TTL>10</TTL><ResourceRecords><ResourceRecord>"
        f"<Value>{address}</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>"
        "</Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>"
    )
    request = ("POST", "route53", f"/2013-04-01/hostedzone/{zone}/rrset")
    headers = {"content-type": "application/xml"}
    patiently(name, lambda: aws.send("ChangeRecord", request, body.encode(), headers))


def complete(aws: Aws, bundle: Mapping[str, Any], instance: str) -> bool:
    """Let the group go on with this instance; whether it has waited for that."""
    told = {
        "AutoScalingGroupName": bundle["group"],
        "LifecycleHookName": bundle["launched"],
        "InstanceId": instance,
        "LifecycleActionResult": "CONTINUE",
    }
    try:
        aws.query("autoscaling", AUTOSCALING, "CompleteLifecycleAction", told)
    except CallError as error:
        if error.code != "ValidationError":  # it does not wait yet, or no more
            raise
        return False
    return True


def _run(*argv: str) -> None:
    subprocess.run(argv, check=True, timeout=MAKING)


def main(arguments: Sequence[str]) -> None:
    """Install the unit that boots, fetch the keys anew, or boot."""
    bundle = json.loads((HERE / "bundle.json").read_text())
    if arguments == ["install"]:
        return install(bundle)
    if arguments == ["keys"]:
        return keys(Aws(Metadata()), bundle["secrets"])
    return boot(bundle, json.loads((HERE / "settings.json").read_text()))


if __name__ == "__main__":
    main(sys.argv[1:])
