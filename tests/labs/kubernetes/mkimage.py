#!/usr/bin/env python3
"""Make an OCI layout for `ctr images import`: OUT.tar NAME LAYER... -- CMD...; no daemon."""

import hashlib
import io
import json
import os
import sys
import tarfile
from pathlib import Path

i = sys.argv.index("--")
out, name, *layers = sys.argv[1:i]
cmd = sys.argv[i + 1 :]
blobs = {}


def put(data, media):
    d = hashlib.sha256(data).hexdigest()
    blobs[d] = data
    return {"mediaType": media, "digest": "sha256:" + d, "size": len(data)}


descs, diffs = [], []
for layer in layers:
    if os.path.isdir(layer):
        b = io.BytesIO()
        with tarfile.open(fileobj=b, mode="w", format=tarfile.PAX_FORMAT) as t:

            def own(ti):
                ti.uid = ti.gid = 0
                ti.uname = ti.gname = "root"
                return ti

            for e in sorted(os.listdir(layer)):
                t.add(os.path.join(layer, e), e, filter=own)
        raw = b.getvalue()
    else:
        raw = Path(layer).read_bytes()
    diffs.append("sha256:" + hashlib.sha256(raw).hexdigest())
    descs.append(
        put(raw, "application/vnd.oci.image.layer.v1.tar")
    )  # uncompressed: quickest to import
cfg = {
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "Entrypoint": cmd,
        "Env": ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"]
        + [e for e in os.environ.get("ENV_", "").split(",") if e],
        **({"User": os.environ["USER_"]} if "USER_" in os.environ else {}),
        **({"WorkingDir": os.environ["WORKDIR_"]} if "WORKDIR_" in os.environ else {}),
    },
    "rootfs": {"type": "layers", "diff_ids": diffs},
}
c = put(json.dumps(cfg).encode(), "application/vnd.oci.image.config.v1+json")
m = put(
    json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": c,
            "layers": descs,
        }
    ).encode(),
    "application/vnd.oci.image.manifest.v1+json",
)
m["annotations"] = {
    "io.containerd.image.name": name,
    "org.opencontainers.image.ref.name": name.rsplit(":", 1)[1],
}
with tarfile.open(out, "w") as t:

    def add(p, data):
        ti = tarfile.TarInfo(p)
        ti.size = len(data)
        t.addfile(ti, io.BytesIO(data))

    add("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    add("index.json", json.dumps({"schemaVersion": 2, "manifests": [m]}).encode())
    for d, data in blobs.items():
        add("blobs/sha256/" + d, data)
