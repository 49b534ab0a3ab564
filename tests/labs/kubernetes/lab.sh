#!/bin/bash
# LAB=folder lab.sh up | node n1|n2 | stop-node n1|n2 | load IMAGE.tar | in cp|n1|n2 CMD... | mem | down      (root; all state under $LAB)
set -eu
LAB=$(readlink -f ${LAB:?})
B=$LAB/bin R=$LAB/root D=$LAB/data E=$LAB/etc L=$LAB/log
CP=10.99.0.10 SVC=10.97.0.0/16 API=10.97.0.1 DNS=10.97.0.10
export PATH=$B:$R/usr/sbin:$R/usr/bin:$PATH
export KUBECACHEDIR=$LAB/data/kubecache
export LD_LIBRARY_PATH=$R/usr/lib/x86_64-linux-gnu XTABLES_LIBDIR=$R/usr/lib/x86_64-linux-gnu/xtables

pki() {
  [ -e $E/pki/ca.crt ] && return
  mkdir -p $E/pki; cd $E/pki
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca.key -out ca.crt -days 30 -subj /CN=lab-ca 2>/dev/null
  cert() { # file subject extra-ext
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout $1.key -out $1.csr -subj "$2" 2>/dev/null
    openssl x509 -req -in $1.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -out $1.crt -extfile <(printf '%s\n' "basicConstraints=CA:FALSE" "keyUsage=digitalSignature" "extendedKeyUsage=serverAuth,clientAuth" "$3") 2>/dev/null
    rm $1.csr; }
  cert apiserver /CN=kube-apiserver "subjectAltName=IP:$CP,IP:127.0.0.1,IP:$API,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:kubernetes.default.svc.cluster.local"
  cert apiserver-kubelet /O=system:masters/CN=apiserver-kubelet ""
  cert admin /O=system:masters/CN=admin ""
  cert kcm /CN=system:kube-controller-manager ""
  cert scheduler /CN=system:kube-scheduler ""
  cert proxy /CN=system:kube-proxy ""
  cert netpol /CN=lab:netpol ""
  for n in n1 n2; do cert $n /O=system:nodes/CN=system:node:$n "subjectAltName=DNS:$n,IP:10.99.0.1${n#n}"; done
  openssl ecparam -name prime256v1 -genkey -noout -out sa.key; openssl ec -in sa.key -pubout -out sa.pub 2>/dev/null
  for u in admin kcm scheduler proxy netpol n1 n2; do cat > ../$u.conf <<X
apiVersion: v1
kind: Config
current-context: lab
clusters: [{name: lab, cluster: {server: "https://$CP:6443", certificate-authority: $E/pki/ca.crt}}]
users: [{name: $u, user: {client-certificate: $E/pki/$u.crt, client-key: $E/pki/$u.key}}]
contexts: [{name: lab, context: {cluster: lab, user: $u}}]
X
  done
}

net() { # one bridge in the namespace of the control plane; the test's own side is the link k8slab0
  ip netns add lab-cp; ip -n lab-cp link set lo up
  ip -n lab-cp link add br0 type bridge; ip -n lab-cp addr add $CP/24 dev br0; ip -n lab-cp link set br0 up
  ip link add k8slab0 type veth peer name host netns lab-cp
  ip -n lab-cp link set host master br0 up; ip addr add 10.99.0.1/24 dev k8slab0; ip link set k8slab0 up
  ip netns exec lab-cp sysctl -qw net.ipv4.ip_forward=1
}
nodenet() { n=$1; i=${n#n}
  ip netns add lab-$n; ip -n lab-$n link set lo up
  ip -n lab-$n link add eth0 type veth peer name $n netns lab-cp
  ip -n lab-cp link set $n master br0 up
  ip -n lab-$n addr add 10.99.0.1$i/24 dev eth0; ip -n lab-$n link set eth0 up
  ip netns exec lab-$n sysctl -qw net.ipv4.ip_forward=1
  for j in 1 2; do [ $j = $i ] || ip -n lab-$n route replace 10.98.$j.0/24 via 10.99.0.1$j; done
  ip -n lab-cp route replace 10.98.$i.0/24 via 10.99.0.1$i; ip route replace 10.98.$i.0/24 via 10.99.0.1$i
  ip -n lab-cp route replace $SVC via 10.99.0.11; ip route replace $SVC via 10.99.0.11   # node 1 is the way to ClusterIPs
}
machine() { # NAME SCRIPT: own pid, mount, uts, ipc namespaces; ends whole when its one outer process ends
  m=$1; shift; mkdir -p $D/$m/var/lib $D/$m/var/log $D/$m/run $L
  setsid nsenter --net=/run/netns/lab-$m unshare --mount --uts --ipc --pid --fork --kill-child --mount-proc --propagation private \
    bash -c 'mount --make-rshared /; mount --bind '$D/$m/run' /run; mount --bind '$D/$m/var' /var; ln -sfn /run /var/run; hostname '$m'; ulimit -n 65536 2>/dev/null || true; . "$0"' "$1" >$L/$m.log 2>&1 </dev/null &
  echo $! > $LAB/$m.pid
}
inner() { pgrep -P $(cat $LAB/$1.pid) | head -1; }
inside() { m=$1; shift; nsenter -t $(inner $m) -m -u -i -n -p -- "$@"; }

up() {
  mkdir -p $D $E $L; pki; net
  cat > $E/audit.yaml <<X
apiVersion: audit.k8s.io/v1
kind: Policy
rules: [{level: Metadata, userGroups: ["system:serviceaccounts:dask"]}, {level: None}]
X
  cat > $E/cp.sh <<X
mkdir -p /var/lib/etcd; mount -t tmpfs tmpfs /var/lib/etcd
etcd --name lab --data-dir /var/lib/etcd --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 >$L/etcd.log 2>&1 &
kube-apiserver --etcd-servers=http://127.0.0.1:2379 --bind-address=0.0.0.0 --advertise-address=$CP --secure-port=6443 \
  --tls-cert-file=$E/pki/apiserver.crt --tls-private-key-file=$E/pki/apiserver.key --client-ca-file=$E/pki/ca.crt \
  --kubelet-client-certificate=$E/pki/apiserver-kubelet.crt --kubelet-client-key=$E/pki/apiserver-kubelet.key \
  --service-account-issuer=https://kubernetes.default.svc --service-account-key-file=$E/pki/sa.pub --service-account-signing-key-file=$E/pki/sa.key \
  --kubelet-preferred-address-types=InternalIP --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction --anonymous-auth=false \
  --service-cluster-ip-range=$SVC --allow-privileged=true --default-not-ready-toleration-seconds=10 --default-unreachable-toleration-seconds=10 \
  --audit-policy-file=$E/audit.yaml --audit-log-path=$L/audit.log >$L/kube-apiserver.log 2>&1 &
kube-controller-manager --kubeconfig=$E/kcm.conf --use-service-account-credentials --service-account-private-key-file=$E/pki/sa.key \
  --root-ca-file=$E/pki/ca.crt --leader-elect=false --node-monitor-grace-period=16s --service-cluster-ip-range=$SVC --bind-address=127.0.0.1 >$L/kube-controller-manager.log 2>&1 &
kube-scheduler --kubeconfig=$E/scheduler.conf --leader-elect=false --bind-address=127.0.0.1 >$L/kube-scheduler.log 2>&1 &
wait
X
  machine cp $E/cp.sh
  export KUBECONFIG=$E/admin.conf
  for k in $(seq 300); do kubectl get --raw /readyz >/dev/null 2>&1 && kubectl get sa default >/dev/null 2>&1 && break; sleep 0.2; done
  kubectl get --raw /readyz; echo
}
node() { n=$1; i=${n#n}; nodenet $n
  for c in /sys/fs/cgroup/*/; do [ -e $c/cgroup.procs ] && [ $(basename $c) != unified ] && mkdir -p $c/k8slab/$n; done
  for c in k8slab k8slab/$n; do for f in cpus mems; do cat /sys/fs/cgroup/cpuset/cpuset.$f > /sys/fs/cgroup/cpuset/$c/cpuset.$f; done; done
  mkdir -p $E/$n/cni; : > $E/$n/resolv.conf
  cat > $E/$n/cni/10-lab.conflist <<X
{"cniVersion": "0.4.0", "name": "lab", "plugins": [
  {"type": "ptp", "ipMasq": false, "mtu": 1500, "ipam": {"type": "host-local", "dataDir": "/var/lib/cni/networks",
    "ranges": [[{"subnet": "10.98.$i.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
X
  cat > $E/$n/containerd.toml <<X
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "lab.local/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$R/usr/lib/cni"
    conf_dir = "$E/$n/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        BinaryName = "$R/usr/sbin/runc"
        SystemdCgroup = false
X
  cat > $E/$n/kubelet.yaml <<X
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /k8slab/$n
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
clusterDNS: [$DNS]
clusterDomain: cluster.local
resolvConf: $E/$n/resolv.conf
volumePluginDir: /var/lib/kubelet/volumeplugins
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $E/pki/ca.crt}}
authorization: {mode: Webhook}
registerNode: true
enforceNodeAllocatable: [pods]
systemReserved: {memory: 12Gi}
evictionHard: {memory.available: 200Mi, nodefs.available: 1Gi, imagefs.available: 1Gi}
nodeStatusUpdateFrequency: 4s
syncFrequency: 10s
imageGCHighThresholdPercent: 100
X
  cat > $E/$n/proxy.yaml <<X
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: $n
clusterCIDR: 10.98.0.0/16
clientConnection: {kubeconfig: $E/proxy.conf}
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nodePortAddresses: [10.99.0.0/24]
X
  cat > $E/$n.sh <<X
containerd -c $E/$n/containerd.toml >$L/$n-containerd.log 2>&1 &
for k in \$(seq 100); do [ -S /run/containerd/containerd.sock ] && ctr version >/dev/null 2>&1 && break; sleep 0.1; done
for t in $LAB/img/*.oci.tar; do ctr -n k8s.io images import \$t; done >$L/$n-import.log 2>&1
kubelet --config=$E/$n/kubelet.yaml --kubeconfig=$E/$n.conf --hostname-override=$n --node-ip=10.99.0.1$i --root-dir=/var/lib/kubelet --v=2 >$L/$n-kubelet.log 2>&1 &
kube-proxy --config=$E/$n/proxy.yaml >$L/$n-kube-proxy.log 2>&1 &
[ -e $LAB/netpol.py ] && python3.11 $LAB/netpol.py $E/pki 10.98.$i.0/24 $CP >$L/$n-netpol.log 2>&1 &
wait
X
  machine $n $E/$n.sh
}
stopnode() { [ -e $LAB/$1.pid ] || return 0; p=$(cat $LAB/$1.pid); kill -KILL $(inner $1) 2>/dev/null || true   # pid 1 of the machine: the kernel ends all in it (unshare itself blocks TERM)
  for k in $(seq 100); do kill -0 $p 2>/dev/null || break; sleep 0.1; done; kill -0 $p 2>/dev/null && { echo $1 still runs; exit 1; }
  ip netns del lab-$1 2>/dev/null || true; ip route del 10.98.${1#n}.0/24 2>/dev/null || true; rm -f $LAB/$1.pid
  for c in /sys/fs/cgroup/*/k8slab/$1; do [ -d $c ] && for k in $(seq 20); do find $c -depth -type d -exec rmdir {} \; 2>/dev/null; [ -d $c ] || break; sleep 0.1; done; done; true
}
down() { stopnode n2; stopnode n1; stopnode cp; ip route del $SVC 2>/dev/null || true; ip link del k8slab0 2>/dev/null || true
  for c in /sys/fs/cgroup/*/k8slab; do [ -d $c ] && rmdir $c; done; rm -rf $D $E $L; }   # /run/netns stays: another lab may be about to use it

case $1 in
  up) up;; node) node $2;; stop-node) stopnode $2;; down) down;;
  in) shift; inside "$@";;
  load) for m in n1 n2; do [ -e $LAB/$m.pid ] && inside $m $R/usr/bin/ctr -n k8s.io images import "$(readlink -f $2)" | tail -1; done;;
  mem) ps -eo rss,args --sort=-rss | awk '/kube-|kubelet|etcd|containerd|coredns|netpol.py/ && !/awk/ {n=$2; sub(".*/","",n); a[n]+=$1; c[n]++} END {for (k in a) {printf "%s x%d %d MiB\n", k, c[k], a[k]/1024; t+=a[k]} printf "total %d MiB\n", t/1024}';;
esac
