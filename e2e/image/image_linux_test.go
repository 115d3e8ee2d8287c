// Package image starts the compatible image's files as containers are started that expect Apache Kafka's, Confluent's or Bitnami's:
// without a container engine, in namespaces, over an overlay of this machine's own programs.
package image

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"kraft/e2e/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

// inside makes the namespaces and the overlay, and runs the script $3 with nothing in its environment but what that sets. $1 is the
// image's files, $2 room for what is written.
const inside = `
ip link set lo up &&
mount -t tmpfs none "$2" && mkdir "$2/upper" "$2/work" "$2/merged" &&
mount -t overlay overlay -o "lowerdir=/,upperdir=$2/upper,workdir=$2/work" "$2/merged" && cp -R "$1/." "$2/merged/" &&
mount -t proc proc "$2/merged/proc" && mount --bind /dev "$2/merged/dev" && mount -t tmpfs none "$2/merged/tmp" &&
exec chroot "$2/merged" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp bash -c "$3"
`

// use waits for the broker, works with it as a client does, and ends the script.
const use = `
until kraft health -b "$client" >/dev/null 2>&1; do
  kill -0 $! 2>/dev/null || { echo "the server has ended"; exit 1; }
  sleep 0.05
done
echo hello | kafka-console-producer --bootstrap-server "$client" --topic greetings &&
kafka-console-consumer --bootstrap-server "$client" --topic greetings --from-beginning --max-messages 1 --timeout-ms 20000 &&
kafka-topics --bootstrap-server "$client" --list &&
kafka-broker-api-versions --bootstrap-server "$client" >/dev/null && cub kafka-ready -b "$client" 1 20 && echo "all of it works"
`

// javaSettings are what Testcontainers' Java module sets for apache/kafka and cp-kafka.
const javaSettings = `
export CLUSTER_ID=4L6g3nShT-eMCtK--X86sw KAFKA_BROKER_ID=1 KAFKA_NODE_ID=1 KAFKA_PROCESS_ROLES=broker,controller
export KAFKA_LISTENERS=CONTROLLER://0.0.0.0:9094,PLAINTEXT://0.0.0.0:9092,BROKER://0.0.0.0:9093
export KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT KAFKA_INTER_BROKER_LISTENER_NAME=BROKER
export KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:9094
export KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1 KAFKA_OFFSETS_TOPIC_NUM_PARTITIONS=1 KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR=1
export KAFKA_TRANSACTION_STATE_LOG_MIN_ISR=1 KAFKA_LOG_FLUSH_INTERVAL_MESSAGES=9223372036854775807 KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS=0
`

// waitAndRun is how a container waits until its start script is copied into it.
const waitAndRun = `(while [ ! -f %[1]s ]; do sleep 0.1; done; %[1]s) &
cat > %[1]s.part <<'END'
%[2]s
END
chmod +x %[1]s.part && mv %[1]s.part %[1]s
`

// starts are the start sequences: of each, a script that leaves the server in the background, and what its output has to show.
var starts = map[string]struct{ script, waitsFor string }{
	"docker run apache/kafka": {"client=localhost:9092\n/etc/kafka/docker/run &\n", "Kafka Server started"},
	"apache/kafka with arguments and a file": {`client=localhost:9092
echo num.partitions=3 > /mnt/shared/config/server.properties
/etc/kafka/docker/run KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092 KAFKA_LOG_DIRS=/var/lib/kafka/data/lost+found/.. &
`, "Kafka Server started"},
	"Testcontainers for Java, apache/kafka": {javaSettings + "client=localhost:9092\n" + fmt.Sprintf(waitAndRun, "/tmp/testcontainers_start.sh", `#!/bin/bash
export KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092,BROKER://localhost:9093
/etc/kafka/docker/run`), "Transitioning from RECOVERY to RUNNING"},
	"Testcontainers for Java, cp-kafka": {javaSettings + "client=localhost:9092\n" + fmt.Sprintf(waitAndRun, "/tmp/testcontainers_start.sh", `#!/bin/bash
export KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092,BROKER://localhost:9093
/etc/confluent/docker/run`), "Transitioning from RECOVERY to RUNNING"},
	"Testcontainers for Go": {strings.ReplaceAll(javaSettings, "4L6g3nShT-eMCtK--X86sw", "test-cluster") + "client=localhost:9092\n" + fmt.Sprintf(waitAndRun, "/usr/sbin/testcontainers_start.sh", `#!/bin/bash
source /etc/confluent/docker/bash-config
export KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092,BROKER://localhost:9093
sed -i '/KAFKA_ZOOKEEPER_CONNECT/d' /etc/confluent/docker/configure
echo 'kafka-storage format --ignore-formatted -t "$(kafka-storage random-uuid)" -c /etc/kafka/kafka.properties' >> /etc/confluent/docker/configure
echo '' > /etc/confluent/docker/ensure
/etc/confluent/docker/configure
/etc/confluent/docker/launch`), "Transitioning from RECOVERY to RUNNING"},
	"Testcontainers for Node": {javaSettings + "client=localhost:9092\n" + fmt.Sprintf(waitAndRun, "/tmp/starter.sh", `#!/bin/bash
export KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092,BROKER://localhost:9093
. /etc/confluent/docker/bash-config
/etc/confluent/docker/configure
/etc/confluent/docker/launch`), "is ready"},
	"Testcontainers for Python": {javaSettings + "client=localhost:9092\n" + fmt.Sprintf(waitAndRun, "/tc-start.sh", `#!/bin/sh
export KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092,BROKER://localhost:9093
. /etc/confluent/docker/bash-config
/etc/confluent/docker/configure
/etc/confluent/docker/launch`), `[KafkaServer id=1] started`},
	"Testcontainers for .NET": {javaSettings + `
export KAFKA_LISTENERS=PLAINTEXT://:9092,BROKER://:9093,CONTROLLER://:9094
client=localhost:9092
` + fmt.Sprintf(waitAndRun, "/testcontainers.sh", `#!/bin/bash
export KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092,BROKER://localhost:9093,
exec /etc/kafka/docker/run`), "Transitioning from RECOVERY to RUNNING"},
	"Testcontainers for Rust": {`
export CLUSTER_ID=5L6g3nShT-eMCtK--X86sw KAFKA_BROKER_ID=1 KAFKA_PROCESS_ROLES=broker,controller
export KAFKA_LISTENERS=PLAINTEXT://0.0.0.0:9092,BROKER://0.0.0.0:9093,CONTROLLER://0.0.0.0:9094
export KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=BROKER:PLAINTEXT,PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT KAFKA_INTER_BROKER_LISTENER_NAME=BROKER
export KAFKA_CONTROLLER_LISTENER_NAMES=CONTROLLER KAFKA_CONTROLLER_QUORUM_VOTERS=1@localhost:9094
client=localhost:9092
` + fmt.Sprintf(waitAndRun, "/opt/kafka/testcontainers_start.sh", `#!/usr/bin/env bash
export KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:9092,BROKER://localhost:9093
/etc/kafka/docker/run`), "Kafka Server started"},
	"Bitnami's settings": {`
export KAFKA_CFG_NODE_ID=0 KAFKA_CFG_PROCESS_ROLES=controller,broker KAFKA_CFG_LISTENERS=PLAINTEXT://:9092,CONTROLLER://:9093
export KAFKA_CFG_LISTENER_SECURITY_PROTOCOL_MAP=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT KAFKA_CFG_CONTROLLER_QUORUM_VOTERS=0@localhost:9093
export KAFKA_CFG_CONTROLLER_LISTENER_NAMES=CONTROLLER ALLOW_PLAINTEXT_LISTENER=yes KAFKA_KRAFT_CLUSTER_ID=L0ZEQh4yTbmzv3bpPlDAtg
client=localhost:9092
/opt/bitnami/scripts/kafka/entrypoint.sh /opt/bitnami/scripts/kafka/run.sh &
`, "Kafka Server started"},
	"Confluent's of the ZooKeeper days": {besideZooKeeper("12181", "ZOOKEEPER_CLIENT_PORT=12181 ZOOKEEPER_TICK_TIME=2000 ZOOKEEPER_SERVER_ID=1 /etc/confluent/docker/run") + `
export KAFKA_BROKER_ID=1 KAFKA_ZOOKEEPER_CONNECT=zookeeper:12181 KAFKA_OFFSETS_TOPIC_REPLICATION_FACTOR=1
export KAFKA_LISTENERS=INSIDE://0.0.0.0:29092,OUTSIDE://0.0.0.0:9092 KAFKA_ADVERTISED_LISTENERS=INSIDE://localhost:29092,OUTSIDE://localhost:9092
export KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT KAFKA_INTER_BROKER_LISTENER_NAME=INSIDE
client=localhost:9092
/etc/confluent/docker/run &
` + byZooKeeper("zookeeper:12181"), "[KafkaServer id=1] started"},
	"wurstmeister's": {besideZooKeeper("2181", "/usr/bin/start-zk.sh") + `
export KAFKA_ZOOKEEPER_CONNECT=zookeeper:2181 HOSTNAME_COMMAND="echo localhost" PORT_COMMAND="echo 9092" KAFKA_HEAP_OPTS=-Xmx256M
export KAFKA_LISTENERS=PLAINTEXT://:9092 KAFKA_ADVERTISED_LISTENERS='PLAINTEXT://_{HOSTNAME_COMMAND}:_{PORT_COMMAND}' KAFKA_CREATE_TOPICS="orders:3:1,changes:1:1:compact"
client=localhost:9092
start-kafka.sh &
` + byZooKeeper("zookeeper:2181") + `
until kafka-topics --bootstrap-server "$client" --describe --topic changes 2>/dev/null | grep cleanup.policy=compact; do sleep 0.1; done
kafka-topics --bootstrap-server "$client" --describe --topic orders | grep "PartitionCount: 3" || exit 1
`, "is ready"},
	"Bitnami's of the ZooKeeper days": {besideZooKeeper("2181", "ALLOW_ANONYMOUS_LOGIN=yes /opt/bitnami/scripts/zookeeper/entrypoint.sh /opt/bitnami/scripts/zookeeper/run.sh") + `
export KAFKA_CFG_ZOOKEEPER_CONNECT=zookeeper:2181 ALLOW_PLAINTEXT_LISTENER=yes KAFKA_CFG_ADVERTISED_LISTENERS=PLAINTEXT://localhost:9092 KAFKA_BROKER_ID=1
export KAFKA_CFG_LISTENERS=PLAINTEXT://:9092
client=localhost:9092
/opt/bitnami/scripts/kafka/entrypoint.sh /opt/bitnami/scripts/kafka/run.sh &
` + byZooKeeper("zookeeper:2181"), "Kafka Server started"},
	"the image zookeeper, by environment alone": {besideZooKeeper("2181", "ZOO_MY_ID=1 'ZOO_SERVERS=server.1=0.0.0.0:2888:3888;2181' /etc/kafka/docker/run") + `
export KAFKA_ZOOKEEPER_CONNECT=zookeeper:2181 KAFKA_ADVERTISED_HOST_NAME=localhost
client=localhost:9092
/etc/kafka/docker/run &
` + byZooKeeper("zookeeper:2181"), "Kafka Server started"},
}

// besideZooKeeper starts a container in ZooKeeper's place by a command, perhaps with variables before it, and asks it whether it is well.
func besideZooKeeper(port, command string) string {
	return `echo "127.0.0.1 localhost zookeeper $(hostname)" > /etc/hosts
env KAFKA_LOG_DIRS=/tmp/zookeeper ` + command + ` &
until [ "$(exec 3<>/dev/tcp/localhost/` + port + ` && echo ruok >&3 && cat <&3)" = imok ]; do sleep 0.1; done 2>/dev/null
`
}

// byZooKeeper asks what the nodes are to the quorum, and for topics.
func byZooKeeper(address string) string {
	return `zkServer.sh status | grep -E "Mode: (standalone|observer)" || exit 1
until kafka-topics --zookeeper ` + address + ` --create --if-not-exists --topic old --partitions 1 --replication-factor 1 2>/tmp/error; do
  kill -0 $! 2>/dev/null || { echo "the server has ended"; cat /tmp/error; exit 1; }
  sleep 0.1
done
`
}

// TestImage starts the image as each of those that use Kafka's images does, and works with it.
func TestImage(t *testing.T) {
	bin, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "sh", "-c", "mount -t tmpfs none /mnt && command -v ip").CombinedOutput(); err != nil {
		harness.Skip(t, "namespaces, mounts or ip(8) are not to be had: %v %s", err, out)
	}
	files := filepath.Join(t.TempDir(), "image")
	if out, err := exec.Command("../../packaging/image/install", bin, files).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for name, s := range starts {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			begun := time.Now()
			out, err := runIn(t, files, s.script+use)
			if err != nil || !strings.Contains(out, "all of it works") {
				t.Fatalf("%v: %s", err, out)
			}
			for _, line := range []string{s.waitsFor, "hello\n", "greetings\n"} {
				if !strings.Contains(out, line) {
					t.Errorf("no %q in %s", line, out)
				}
			}
			t.Logf("started and used in %v", time.Since(begun))
		})
	}
}

// runIn runs a script in the image, and ends all that it started.
func runIn(t *testing.T, files, script string) (string, error) {
	room, err := os.MkdirTemp("", "image") // a test's name may have commas, which mean something to mount(8)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { _ = os.Remove(room) })
	cmd := exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "sh", "-c", inside, "sh", files, room, script)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", err
	}
	const patience = time.Minute
	timer := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	err = cmd.Wait()
	if !timer.Stop() {
		err = errors.Join(err, fmt.Errorf("not done within %v", patience))
	}
	return out.String(), err
}
