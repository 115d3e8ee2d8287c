#!/usr/bin/env bash
# bitnami/zookeeper's command.
exec start-zk.sh
