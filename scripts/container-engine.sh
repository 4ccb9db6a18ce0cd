#!/usr/bin/env bash
# A container engine for tests, with everything it owns below one folder.
#
#   container-engine.sh start    FOLDER   start it (installing it when missing) and print its socket
#   container-engine.sh images   FOLDER   make the test images, without a registry
#   container-engine.sh stop     FOLDER   end it and unmount what is left
#   container-engine.sh archives FOLDER   write {static,python,python-node}.tar as `docker save` does; needs no engine
#
# Nothing of a container engine that runs already is touched: data root, exec root, pid files, socket and
# configuration are the folder's own, there is no default bridge, and forwarding stays as it is.
# What is made stays in the folder, so that a second run is quick.
# Exit code 3 with the reason on standard error: no engine can run here, or no image be made.
set -euo pipefail

say() { echo "container-engine: $*" >&2; }
cannot() {
    say "no container engine can run here: $*"
    exit 3
}
no_image() {
    say "no image can be made here: $*"
    exit 3
}

[ $# -eq 2 ] || {
    sed -n '2,13s/^# \{0,1\}//p' "$0" >&2
    exit 2
}
command=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd -P)
socket=$folder/engine.sock
pid_file=$folder/dockerd.pid
export DOCKER_HOST=unix://$socket
here=$(cd "$(dirname "$0")" && pwd -P)

answers() { [ -S "$socket" ] && timeout 10 docker version >/dev/null 2>&1; }

# Whether the process in a pid file is the program we started, not another that got its number.
alive() { # PID_FILE PROGRAM
    local pid
    pid=$(cat "$1" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$2" ] && echo "$pid"
}

check() {
    [ "$(id -u)" = 0 ] || cannot "this user is not root"
    [ "$(uname -s)" = Linux ] || cannot "this system is not Linux"
    [ ${#socket} -lt 100 ] || cannot "the path $socket is too long for a socket"
    [ -e /sys/fs/cgroup/cgroup.controllers ] || [ -d /sys/fs/cgroup/memory ] ||
        cannot "no control groups are mounted at /sys/fs/cgroup"
    grep -qw overlay /proc/filesystems || modprobe overlay 2>/dev/null ||
        cannot "this kernel has no overlay file system"
}

install_engine() {
    command -v dockerd >/dev/null && return
    command -v apt-get >/dev/null || cannot "dockerd is missing, and so is apt-get to install it"
    say "installing docker.io"
    # The package starts its service where it can; a policy forbids it for as long as this takes.
    local policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "'"$policy"'"' EXIT
    fi
    local apt="apt-get -qq -o DPkg::Lock::Timeout=300 -o APT::Update::Error-Mode=any"
    { $apt update && DEBIAN_FRONTEND=noninteractive $apt install -y --no-install-recommends docker.io; } \
        >"$folder/install.log" 2>&1 || cannot "docker.io could not be installed, see $folder/install.log"
}

start() {
    check
    if answers; then
        echo "$socket"
        return
    fi
    install_engine
    # What is left of one that was killed keeps the next one from starting.
    stop_daemons
    iptables -nL DOCKER >/dev/null 2>&1 || touch "$folder/owns-chains"
    touch "$folder/started"
    echo '{}' >"$folder/daemon.json"
    local try
    for try in 1 2; do
        setsid dockerd --config-file "$folder/daemon.json" --data-root "$folder/data" --exec-root "$folder/exec" \
            --pidfile "$pid_file" --host "unix://$socket" --group root --bridge none --ip-forward=false \
            --ip-masq=false --live-restore </dev/null >>"$folder/dockerd.log" 2>&1 &
        local pid=$!
        for _ in $(seq 300); do
            if answers; then
                say "$(docker version --format 'Docker {{.Server.Version}}') at $socket"
                echo "$socket"
                return
            fi
            kill -0 "$pid" 2>/dev/null || break
            sleep 0.1
        done
        say "try $try failed"
        stop_daemons
    done
    tail -n 5 "$folder/dockerd.log" >&2
    cannot "dockerd did not answer, see $folder/dockerd.log"
}

end() { # PID_FILE PROGRAM
    local pid
    pid=$(alive "$1" "$2") || return 0
    kill "$pid" 2>/dev/null || return 0
    for _ in $(seq 150); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$pid" 2>/dev/null || true
}

stop_daemons() {
    end "$pid_file" dockerd
    end "$folder/exec/containerd/containerd.pid" containerd
    rm -f "$pid_file" "$folder/exec/containerd/containerd.pid" "$socket"
}

stop() {
    # One that was killed knows its containers and networks again after a start.
    if [ -e "$folder/started" ] && ! answers; then
        bash "$0" start "$folder" >/dev/null 2>&1 || say "it could not be started again to remove its containers"
    fi
    if answers; then
        local left
        left=$(docker ps -aq)
        # shellcheck disable=SC2086
        [ -z "$left" ] || timeout 60 docker rm -fv $left >/dev/null 2>&1 || say "some containers could not be removed"
        docker network prune -f >/dev/null 2>&1 || true
    fi
    stop_daemons
    # Shims outlive their daemon. Those that were started by ours carry its address.
    local process
    for process in /proc/[0-9]*; do
        if { tr '\0' '\n' <"$process/cmdline"; } 2>/dev/null | grep -qxF "$folder/exec/containerd/containerd.sock"; then
            # Its children are what it ran.
            pkill -9 -P "${process#/proc/}" || true
            kill -9 "${process#/proc/}" 2>/dev/null || true
        fi
    done
    awk -v below="$folder/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r mount; do
        umount "$mount" 2>/dev/null || umount -l "$mount" || say "could not unmount $mount"
    done
    if [ -e "$folder/owns-chains" ]; then
        remove_chains
        # Goes only when it is empty.
        rmdir /sys/fs/cgroup/docker /sys/fs/cgroup/*/docker 2>/dev/null || true
        rm -f "$folder/owns-chains"
    fi
    rm -f "$folder/started"
}

# The packet filter's chains, when there were none before.
remove_chains() {
    local table
    for table in filter nat; do
        iptables-save -t "$table" 2>/dev/null | sed -n '/^-A DOCKER/!s/^-A \(.*-j DOCKER.*\)/-D \1/p' |
            while read -r rule; do
                # shellcheck disable=SC2086
                iptables -t "$table" $rule 2>/dev/null || true
            done
        local chains
        chains=$(iptables-save -t "$table" 2>/dev/null | sed -n 's/^:\(DOCKER[A-Z0-9-]*\) .*/\1/p')
        for chain in $chains; do iptables -t "$table" -F "$chain" 2>/dev/null || true; done
        for chain in $chains; do iptables -t "$table" -X "$chain" 2>/dev/null || true; done
    done
}

# A program, with the libraries that it needs, below a root.
copy_program() { # ROOT PROGRAM
    local root=$1 file
    {
        echo "$2"
        ldd "$2" | sed -n 's/.* => \(\/[^ ]*\) .*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) .*/\1/p'
    } | while read -r file; do
        mkdir -p "$root$(dirname "$file")"
        cp -Lu "$file" "$root$file"
    done
}

digest() { sha256sum <"$1" | cut -d ' ' -f 1; }

# Whether an archive is there and younger than each of these files.
fresh() { # NAME FILE...
    local archive=$folder/$1.tar file
    shift
    [ -e "$archive" ] || return 1
    for file; do
        [ "$archive" -nt "$file" ] || return 1
    done
}

# Makes FOLDER/NAME.tar of a root, as `docker save` writes an image, and FOLDER/NAME.id.
pack() { # NAME ROOT CONFIG
    local out=$folder/$1.image architecture id
    case $(uname -m) in
    x86_64) architecture=amd64 ;;
    aarch64) architecture=arm64 ;;
    *) architecture=$(uname -m) ;;
    esac
    rm -rf "$out"
    mkdir "$out"
    tar -C "$2" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$out/layer.tar" .
    printf '{"architecture":"%s","os":"linux","config":%s,"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
        "$architecture" "$3" "$(digest "$out/layer.tar")" >"$out/config"
    id=$(digest "$out/config")
    mv "$out/config" "$out/$id.json"
    printf '[{"Config":"%s.json","RepoTags":["mote-test/%s:latest"],"Layers":["layer.tar"]}]' "$id" "$1" >"$out/manifest.json"
    tar -C "$out" --owner=0 --group=0 -cf "$folder/$1.tar.partial" manifest.json "$id.json" layer.tar
    echo "sha256:$id" >"$folder/$1.id"
    mv "$folder/$1.tar.partial" "$folder/$1.tar"
    rm -rf "$out" "$2"
    say "made $folder/$1.tar"
}

archive_static() {
    local source=$here/container-engine/server.c root=$folder/static
    fresh static "$source" "$0" && return
    command -v cc >/dev/null || no_image "there is no C compiler"
    rm -rf "$root"
    mkdir -p "$root/tmp"
    cc -O2 -static -s -o "$root/server" "$source"
    pack static "$root" '{"Cmd":["/server"],"Env":["GREETING=hello"]}'
}

# Python and a shell of this system, and with a second argument that Node.js.
archive_python() { # NAME [NODE]
    local root=$folder/$1 name=$1 node=${2-} python version extension
    python=$(readlink -f /usr/bin/python3) || python=
    [ -x "$python" ] || no_image "there is no /usr/bin/python3 to put into it"
    fresh "$name" "$0" "$python" ${node:+"$node"} && return
    rm -rf "$root"
    mkdir -p "$root"/{tmp,etc,usr/bin,usr/lib,bin,app}
    copy_program "$root" "$python"
    copy_program "$root" "$(readlink -f /bin/sh)"
    version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    cp -a "/usr/lib/$version" "$root/usr/lib/"
    rm -rf "$root/usr/lib/$version"/{test,idlelib,tkinter,ensurepip,config-*,turtledemo,lib2to3}
    find "$root/usr/lib/$version" -name __pycache__ -prune -exec rm -rf {} +
    for extension in "/usr/lib/$version"/lib-dynload/*.so; do copy_program "$root" "$extension"; done
    ln -sf "$python" "$root/usr/bin/python3"
    if [ -n "$node" ]; then
        copy_program "$root" "$node"
        [ "$node" = /usr/bin/node ] || ln -sf "$node" "$root/usr/bin/node"
    fi
    ln -sf "$(readlink -f /bin/sh)" "$root/bin/sh"
    printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
    pack "$name" "$root" '{"Cmd":["python3","-m","http.server","8080"],"Env":["PATH=/usr/local/bin:/usr/bin:/bin"],"WorkingDir":"/app"}'
}

archives() {
    # Two tests may want them at the same time.
    local node
    exec 8>"$folder/archives.lock"
    flock 8
    archive_static
    archive_python python
    node=$(readlink -f "$(command -v node)") || node=
    [ -x "$node" ] || no_image "there is no node to put into it"
    archive_python python-node "$node"
    exec 8>&-
}

load() { # NAME
    [ "$(docker image inspect -f '{{.Id}}' "mote-test/$1" 2>/dev/null)" = "$(cat "$folder/$1.id")" ] && return
    docker load -q -i "$folder/$1.tar" >/dev/null
    say "loaded mote-test/$1"
}

case $command in
start) start ;;
stop) stop ;;
images)
    answers || { say "no engine answers at $socket; run: $0 start $folder"; exit 2; }
    archives
    load static
    load python
    load python-node
    ;;
archives) archives ;;
*) say "unknown command $command"; exit 2 ;;
esac
