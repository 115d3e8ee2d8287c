# Hosts on one network, each with its name, processes and files of its own. $1 is a directory for their files, $2 the program, $3 a
# directory of tools, $4 the compatible image's files, and HOSTS the hosts' names. Sourced by a shell that has namespaces of its own; it is
# on their network too, as 10.9.0.254.
set -u
export files=$1 image=$4
program=$2 tools=$3
ip link set lo up
ip link add lan type bridge
ip link set lan up
ip addr add 10.9.0.254/24 dev lan
mount --make-rprivate /
mount -t tmpfs none /opt
mkdir -p /opt/module
{
  echo "127.0.0.1 localhost"
  n=0
  for host in $HOSTS; do
    n=$((n + 1))
    echo "10.9.0.$n $host"
  done
} > "$files/hosts"
mount --bind "$files/hosts" /etc/hosts
n=0
for host in $HOSTS; do
  n=$((n + 1))
  mkdir -p "$files/$host/kafka/bin" "$files/$host/kafka/config" "$files/$host/zookeeper/bin"
  ln -sf "$program" "$files/$host/kraft"
  "$program" scripts "$files/$host/kafka/bin" > /dev/null
  "$program" scripts "$files/$host/zookeeper/bin" > /dev/null
  unshare --net --uts --mount --pid --fork --kill-child --mount-proc sh -c "hostname $host && mount --bind $files/$host /opt/module && exec sleep infinity" &
  outer=$!
  until pid=$(cat "/proc/$outer/task/$outer/children") && [ -n "$pid" ] && [ "$(cat "/proc/${pid% }/comm")" = sleep ]; do sleep 0.01; done
  pid=${pid% }
  echo "$pid" > "$files/$host.pid"
  ip link add "to$n" type veth peer name "eth$n"
  ip link set "eth$n" netns "$pid"
  ip link set "to$n" master lan up
  nsenter -t "$pid" -n ip addr add "10.9.0.$n/24" dev "eth$n"
  nsenter -t "$pid" -n ip link set "eth$n" up
  nsenter -t "$pid" -n ip link set lo up
done

mount --bind "$files/${HOSTS%% *}" /opt/module # what is typed without ssh is typed on the first host
cd "$files"

# ssh HOST COMMAND: as it is typed.
ssh() {
  local host=$1
  shift
  nsenter -t "$(cat "$files/$host.pid")" -n -u -m -p env -i HOME=/root "PATH=$tools:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" bash -c "cd /opt/module/kafka && $*"
}

# container HOST COMMAND VARIABLE=VALUE...: starts the image there, over this machine's files, or starts it again.
container() {
  local host=$1
  shift
  nsenter -t "$(cat "$files/$host.pid")" -n -u -m -p setsid bash -c '
    echo $$ > /opt/module/container.pid
    room=/opt/module/container
    [ -d "$room" ] || {
      mkdir "$room" && mount -t tmpfs none "$room" && mkdir "$room/upper" "$room/work" "$room/merged" &&
      mount -t overlay overlay -o "lowerdir=/,upperdir=$room/upper,workdir=$room/work" "$room/merged" && cd "$room/merged" && cp -R "$image/." . &&
      cp /etc/hosts etc/hosts && mount -t proc proc proc && mount --bind /dev dev && mount -t tmpfs none tmp
    } && exec chroot "$room/merged" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp "${@:2}" "$1"
  ' bash "$@" > "$files/$host.log" 2>&1 < /dev/null &
}
CONTAINER=$(declare -f container) && export CONTAINER # for docker-compose, behind a shell that drops functions

# docker exec NAME COMMAND... and docker kill NAME, of containers.
docker() {
  local does=$1 host=$2
  shift 2
  case $does in
    exec) nsenter -t "$(cat "$files/$host.pid")" -n -u -m -p chroot /opt/module/container/merged env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp "$@" ;;
    kill) nsenter -t "$(cat "$files/$host.pid")" -p -m bash -c 'kill -9 $(< /opt/module/container.pid)' && echo "$host" ;;
    *) echo "docker $does is not known here" >&2 && return 1 ;;
  esac
}

# xsync FILE: copies a file below /opt/module of the first host to the others.
xsync() {
  local first=${HOSTS%% *} host
  for host in ${HOSTS#* }; do
    mkdir -p "$(dirname "$files/$host/${1#/opt/module/}")"
    cp "$files/$first/${1#/opt/module/}" "$files/$host/${1#/opt/module/}"
  done
}

# eventually COMMAND: until it succeeds, as somebody tries again who was too fast; its output is that of the last try.
eventually() {
  local out tries=0
  until out=$("$@" 2>&1); do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || break
    sleep 0.1
  done
  [ -z "$out" ] || echo "$out"
}
