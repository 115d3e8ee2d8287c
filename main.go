// Kraft is a Kafka broker in one binary: Apache Kafka's protocol, disk format and guarantees, with an
// embedded metadata quorum instead of ZooKeeper.
package main

import (
	"os"

	"kraft/cli/command"
)

func main() { os.Exit(command.Main(os.Args)) }
