#!/usr/bin/env bash
# The entrypoint of the image zookeeper, whose command is zkServer.sh start-foreground.
case "${1-zkServer.sh}" in
  zkServer.sh) exec start-zk.sh ;;
esac
exec "$@"
