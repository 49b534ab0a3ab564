#!/bin/bash
# LAB=folder get.sh debs|kube|coredns|helm|images: the builds of the lab; kube is the long one
set -e
LAB=$(readlink -f ${LAB:?}); B=$LAB/bin; W=$LAB/build; mkdir -p $B $W $LAB/img
export GOFLAGS="-buildvcs=false -mod=mod -trimpath" CGO_ENABLED=0
KV=1.34.4
took() { echo "$1 $(( $(date +%s)-s )) s"; }
kmod() { # packages... : a go.mod whose 31 staging modules are replaced by their published versions
  printf 'module k8sbuild\ngo 1.24.0\nrequire k8s.io/kubernetes v%s\n' $KV > go.mod
  for m in $(sed -n 's,^[[:space:]]*\(k8s.io/[a-z-]*\) => ./staging.*,\1,p' "$(go mod download -json k8s.io/kubernetes@v$KV | sed -n 's/.*"GoMod": "\(.*\)".*/\1/p')"); do
    echo "replace $m => $m v0.${KV#1.}" >> go.mod; done
  { printf '//go:build tools\npackage k8sbuild\nimport (\n'; printf ' _ "%s"\n' "$@"; echo ')'; } > tools.go
  go mod tidy >/dev/null 2>&1; }
case $1 in
debs) mkdir -p $LAB/deb && cd $LAB/deb
  apt-get download -q etcd-server containerd runc containernetworking-plugins iptables libip6tc2 libnfnetlink0 libnetfilter-conntrack3 libnftnl11 nftables libnftables1 conntrack ipset libipset13
  for d in *.deb; do dpkg -x $d $LAB/root; done
  for t in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do ln -sf xtables-nft-multi $LAB/root/usr/sbin/$t; done;;   # dpkg -x makes no alternatives; CNI portmap wants them
kube) mkdir -p $W/k8s && cd $W/k8s; C="kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl"
  kmod $(for c in $C; do echo k8s.io/kubernetes/cmd/$c; done); L="-s -w"
  for p in k8s.io/component-base/version k8s.io/client-go/pkg/version; do   # without these the version is v0.0.0-master
    L="$L -X $p.gitVersion=v$KV -X $p.gitMajor=1 -X $p.gitMinor=34 -X $p.gitTreeState=clean -X $p.gitCommit=lab -X $p.buildDate=2026-01-01T00:00:00Z"; done
  for c in $C; do s=$(date +%s); go build -ldflags "$L" -o $B/$c k8s.io/kubernetes/cmd/$c; took $c; done;;
coredns) mkdir -p $W/coredns && cd $W/coredns; printf 'module corednslab\ngo 1.24.0\nrequire github.com/coredns/coredns v1.12.4\n' > go.mod
  { echo 'package main'; echo 'import ('; echo ' "github.com/coredns/coredns/coremain"'
    for p in bind cache errors health kubernetes log loop ready reload whoami; do echo " _ \"github.com/coredns/coredns/plugin/$p\""; done; echo ')'; echo 'func main() { coremain.Run() }'; } > main.go
  go mod tidy >/dev/null 2>&1; s=$(date +%s); go build -ldflags "-s -w" -o $B/coredns .; took coredns;;
helm) mkdir -p $W/helm && cd $W/helm; HV=3.19.0; printf "module helmlab\ngo 1.24.0\nrequire helm.sh/helm/v3 v$HV\n" > go.mod
  printf '//go:build tools\npackage helmlab\nimport _ "helm.sh/helm/v3/cmd/helm"\n' > tools.go; go mod tidy >/dev/null 2>&1
  s=$(date +%s); go build -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=v$HV" -o $B/helm helm.sh/helm/v3/cmd/helm; took helm;;
images) cd $W; mkdir -p pause && cat > pause/main.go <<'X'
package main

import (
	"os"
	"os/signal"
	"syscall"
)

// The sandbox process: holds the namespaces, reaps children, ends on TERM or INT.
func main() {
	c := make(chan os.Signal, 8)
	signal.Notify(c, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for s := range c {
		if s != syscall.SIGCHLD {
			os.Exit(0)
		}
		for {
			var ws syscall.WaitStatus
			if pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
X
  (cd pause; printf 'module pause\ngo 1.24\n' > go.mod; go build -ldflags '-s -w' -o $B/pause .)
  rm -rf l-pause l-dns py; mkdir l-pause l-dns; cp $B/pause l-pause/; cp $B/coredns l-dns/
  python3.11 $LAB/mkimage.py $LAB/img/pause.oci.tar lab.local/pause:1 l-pause -- /pause
  python3.11 $LAB/mkimage.py $LAB/img/coredns.oci.tar lab.local/coredns:1.12.4 l-dns -- /coredns
  s=$(date +%s); [ -e rootfs.tar ] || mmdebstrap -q --variant=minbase --include=python3 --aptopt='Apt::Install-Recommends "false"' --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' bookworm rootfs.tar; took rootfs
  took images;;
esac
