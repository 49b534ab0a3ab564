#!/usr/bin/env python3
"""netpol.py PKI_DIR POD_CIDR API_HOST: networking.k8s.io/v1 NetworkPolicy for the pods of one node, by nftables.

Runs in the node's network namespace. Watches pods, namespaces and policies; on a change writes one atomic nft ruleset.
Pods must be routed (CNI ptp), so that each packet between pods passes the forward hook. IPv4 only.
"""

import http.client
import ipaddress
import json
import ssl
import subprocess
import sys
import threading
import time

PKI, CIDR, HOST = sys.argv[1], ipaddress.ip_network(sys.argv[2]), sys.argv[3]
ctx = ssl.create_default_context(cafile=PKI + "/ca.crt")
ctx.load_cert_chain(PKI + "/netpol.crt", PKI + "/netpol.key")
store = {
    "/api/v1/pods": {},
    "/api/v1/namespaces": {},
    "/apis/networking.k8s.io/v1/networkpolicies": {},
}
ready, lock, changed = set(), threading.Lock(), threading.Event()


def key(o):
    return (o["metadata"].get("namespace", ""), o["metadata"]["name"])


def watch(path):
    while True:
        try:
            c = http.client.HTTPSConnection(HOST, 6443, context=ctx, timeout=400)
            c.request("GET", path)
            r = c.getresponse()
            body = json.loads(r.read())
            if r.status != 200:
                raise OSError(body.get("message"))
            with lock:
                store[path] = {key(o): o for o in body["items"]}
            ready.add(path)
            changed.set()
            c.request(
                "GET",
                f"{path}?watch=1&allowWatchBookmarks=true&timeoutSeconds=300&resourceVersion={body['metadata']['resourceVersion']}",
            )
            r = c.getresponse()
            for line in r:
                ev = json.loads(line)
                if ev["type"] == "ERROR":
                    break
                if ev["type"] == "BOOKMARK":
                    continue
                with lock:
                    if ev["type"] == "DELETED":
                        store[path].pop(key(ev["object"]), None)
                    else:
                        store[path][key(ev["object"])] = ev["object"]
                changed.set()
        except (OSError, ValueError, http.client.HTTPException) as e:
            print("watch", path, e, flush=True)
            time.sleep(1)


def matches(sel, labels):
    labels = labels or {}
    for k, v in (sel.get("matchLabels") or {}).items():
        if labels.get(k) != v:
            return False
    for e in sel.get("matchExpressions") or []:
        k, op, vs = e["key"], e["operator"], e.get("values") or []
        if op == "In" and labels.get(k) not in vs:
            return False
        if op == "NotIn" and k in labels and labels[k] in vs:
            return False
        if op == "Exists" and k not in labels:
            return False
        if op == "DoesNotExist" and k in labels:
            return False
    return True


def ports(pod):
    return [
        p
        for c in pod["spec"]["containers"]
        + [c for c in pod["spec"].get("initContainers") or [] if c.get("restartPolicy") == "Always"]
        for p in c.get("ports") or []
    ]


def ruleset():
    with lock:
        pods, nss, pols = (list(s.values()) for s in store.values())
    nslabels = {n["metadata"]["name"]: n["metadata"].get("labels") for n in nss}
    live = [
        p
        for p in pods
        if p.get("status", {}).get("podIP")
        and not p["spec"].get("hostNetwork")
        and p["status"].get("phase") not in ("Succeeded", "Failed")
    ]

    def peer_pods(peer, ns):
        out = []
        for p in live:
            pns = p["metadata"]["namespace"]
            if "namespaceSelector" in peer:
                if not matches(peer["namespaceSelector"], nslabels.get(pns)):
                    continue
            elif pns != ns:
                continue
            if "podSelector" in peer and not matches(
                peer["podSelector"], p["metadata"].get("labels")
            ):
                continue
            out.append(p)
        return out

    def addr_matches(side, peers, ns):
        """-> list of (nft match, pods or None)"""
        if not peers:
            return [("", None)]
        out = []
        for peer in peers:
            if "ipBlock" in peer:
                b = peer["ipBlock"]
                if ":" in b["cidr"]:
                    continue
                m = f"ip {side} {b['cidr']} " if b["cidr"] != "0.0.0.0/0" else ""
                ex = [x for x in b.get("except") or [] if ":" not in x]
                out.append((m + (f"ip {side} != {{ {', '.join(ex)} }} " if ex else ""), None))
            else:
                ps = peer_pods(peer, ns)
                if ps:
                    out.append(
                        (
                            f"ip {side} {{ {', '.join(sorted({p['status']['podIP'] for p in ps}))} }} ",
                            ps,
                        )
                    )
        return out

    def rules(side, peers, plist, pod, ns):
        out = []
        for m, ps in addr_matches(side, peers, ns):
            if not plist:
                out.append(m + "return")
                continue
            for pt in plist:
                proto, port = pt.get("protocol", "TCP").lower(), pt.get("port")
                if port is None:
                    out.append(f"{m}meta l4proto {proto} return")
                elif isinstance(port, int):
                    out.append(
                        f"{m}{proto} dport {port}{'-%d' % pt['endPort'] if 'endPort' in pt else ''} return"
                    )
                elif side == "saddr":  # a named port of the policy's own pod
                    for n in {
                        q["containerPort"]
                        for q in ports(pod)
                        if q.get("name") == port and q.get("protocol", "TCP").lower() == proto
                    }:
                        out.append(f"{m}{proto} dport {n} return")
                else:  # a named port of each peer pod
                    for p in ps if ps is not None else live:
                        for q in ports(p):
                            if q.get("name") == port and q.get("protocol", "TCP").lower() == proto:
                                out.append(
                                    f"{m}ip daddr {p['status']['podIP']} {proto} dport {q['containerPort']} return"
                                )
        return out

    chains, vin, veg = [], [], []
    for pod in live:
        ip = pod["status"]["podIP"]
        if ipaddress.ip_address(ip) not in CIDR:
            continue
        ns = pod["metadata"]["namespace"]
        mine = [
            q
            for q in pols
            if q["metadata"]["namespace"] == ns
            and matches(q["spec"].get("podSelector") or {}, pod["metadata"].get("labels"))
        ]
        for kind, field, peers, side, vmap in (
            ("Ingress", "ingress", "from", "saddr", vin),
            ("Egress", "egress", "to", "daddr", veg),
        ):
            sel = [q for q in mine if kind in q["spec"].get("policyTypes", ["Ingress"])]
            if not sel:
                continue
            name = f"{field}_{ip.replace('.', '_')}"
            body = [
                r
                for q in sel
                for rule in q["spec"].get(field) or []
                for r in rules(side, rule.get(peers), rule.get("ports"), pod, ns)
            ]
            chains.append(
                "chain %s {\n%s\n counter drop\n}"
                % (name, "\n".join(" " + b for b in dict.fromkeys(body)))
            )
            vmap.append(f"{ip} : jump {name}")
    fwd = [
        "type filter hook forward priority filter; policy accept;",
        "ct state established,related accept",
    ]
    # a pod that reaches itself through a Service is never filtered
    for p in live:
        if ipaddress.ip_address(p["status"]["podIP"]) in CIDR:
            fwd.append(f"ip saddr {p['status']['podIP']} ip daddr {p['status']['podIP']} accept")
    if veg:
        fwd.append("ip saddr vmap { %s }" % ", ".join(sorted(set(veg))))
    if vin:
        fwd.append("ip daddr vmap { %s }" % ", ".join(sorted(set(vin))))
    return (
        "table inet labnetpol {}\ndelete table inet labnetpol\ntable inet labnetpol {\n%s\nchain forward {\n%s\n}\n}\n"
        % ("\n".join(sorted(set(chains))), "\n".join(" " + f for f in fwd))
    )


for path in store:
    threading.Thread(target=watch, args=(path,), daemon=True).start()
last = None
while True:
    changed.wait()
    changed.clear()
    if len(ready) < len(store):
        continue
    rs = ruleset()
    if rs != last:
        t = time.time()
        r = subprocess.run(["nft", "-f", "-"], input=rs, text=True, capture_output=True)
        print(
            f"{time.strftime('%H:%M:%S')} wrote {rs.count('chain ') - 1} pod chains, {1000 * (time.time() - t):.0f} ms, rc {r.returncode} {r.stderr}",
            flush=True,
        )
        if r.returncode:
            print(rs, flush=True)
            changed.set()
            time.sleep(1)
            continue
        last = rs
    time.sleep(0.05)
