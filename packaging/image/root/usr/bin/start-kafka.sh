#!/usr/bin/env bash
# wurstmeister/kafka's command. Its data is in /kafka.
mkdir -p /kafka
export KAFKA_LOG_DIRS="${KAFKA_LOG_DIRS:-/kafka/kafka-logs-$(hostname)}"
exec /etc/kafka/docker/run
