#!/usr/bin/env bash
# wurstmeister/zookeeper's command.
export KRAFT_ROLE=zookeeper
exec /etc/kafka/docker/run
