#!/usr/bin/env bash
# Bitnami's image keeps its data here.
mkdir -p /bitnami/kafka/data
export KAFKA_LOG_DIRS="${KAFKA_CFG_LOG_DIRS:-/bitnami/kafka/data}"
exec /etc/kafka/docker/run
