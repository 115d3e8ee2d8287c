package scripts

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"

	"kraft/cli/config"
	"kraft/storage"
)

var storageScript = script{
	about:   "format and show log directories: random-uuid, format, info",
	options: slices.Concat(formatFlags, formatValues),
	run:     storageTool,
}

// What kraft does not need of Kafka's format step is taken and has no effect: a node finds its quorum and its levels by itself. --add-scram counts.
var (
	formatFlags = []option{{name: "ignore-formatted", flag: true, aliases: []string{"g"}}, {name: "standalone", flag: true, aliases: []string{"s"}},
		{name: "no-initial-controllers", flag: true, aliases: []string{"N"}}}
	formatValues = []option{{name: "config", aliases: []string{"c"}}, {name: "cluster-id", aliases: []string{"t"}}, {name: "initial-controllers", aliases: []string{"I"}},
		{name: "release-version", aliases: []string{"r"}}, {name: "feature", aliases: []string{"f"}}, {name: "add-scram", aliases: []string{"S"}}}
)

func storageTool(c *call) error {
	commands := map[string]func(*call) error{"random-uuid": randomUUID, "format": format, "info": storageInfo}
	if len(c.rest) != 1 || commands[c.rest[0]] == nil {
		return errors.New("kafka-storage takes one of random-uuid, format, info")
	}
	return commands[c.rest[0]](c)
}

// randomUUID prints one that does not look like an option.
func randomUUID(c *call) error {
	for {
		id := uuid.New()
		if text := base64.RawURLEncoding.EncodeToString(id[:]); !strings.HasPrefix(text, "-") {
			fmt.Fprintln(c.out, text)
			return nil
		}
	}
}

// nodeConfig reads --config, with the environment above it as for a server.
func nodeConfig(c *call) (*config.Config, error) {
	if !c.has("config") {
		return nil, errors.New("kafka-storage: error: argument --config/-c is required")
	}
	file, err := config.ReadFile(c.get("config", ""))
	if err != nil {
		return nil, err
	}
	env, _ := config.Environment(os.Environ())
	return config.New(config.Sources{File: file, Environment: env}.Merge())
}

// allDirs are a node's directories, that of its metadata first.
func allDirs(conf *config.Config) []string {
	dirs := []string{conf.MetadataDir}
	for _, d := range conf.LogDirs {
		if d != conf.MetadataDir {
			dirs = append(dirs, d)
		}
	}
	return dirs
}

// format ties directories to a cluster. kraft needs no such step: a server does it at its first start.
func format(c *call) error {
	if !c.has("cluster-id") {
		return errors.New("kafka-storage format: error: argument --cluster-id/-t is required")
	}
	id := c.get("cluster-id", "")
	conf, err := nodeConfig(c)
	if err != nil {
		return err
	}
	users, err := firstUsers(c.all("add-scram"))
	if err != nil {
		return err
	}
	formatted := 0
	for _, path := range allDirs(conf) {
		d, err := storage.OpenDir(storage.OS{}, path)
		if err != nil {
			return err
		}
		had := d.Meta()
		switch {
		case had == nil:
			if path == conf.MetadataDir && len(users) > 0 { // before the directory counts as formatted
				err = config.WriteFirstUsers(path, users)
			}
			if err == nil {
				err = d.Claim(id, conf.NodeID)
			}
		case path == conf.MetadataDir && len(users) > 0:
			err = fmt.Errorf("--add-scram has no effect: %s is formatted already, and the first users come with a new cluster", path)
		case !c.has("ignore-formatted"):
			err = fmt.Errorf("Log directory %s is already formatted. Use --ignore-formatted to ignore this directory and format the others.", path)
		case had.ClusterID != id:
			err = fmt.Errorf("Invalid cluster.id in: %s. Expected %s, but read %s", filepath.Join(path, "meta.properties"), id, had.ClusterID)
		}
		if err = errors.Join(err, d.Close()); err != nil {
			return err
		}
		if had == nil {
			formatted++
			kind := "data"
			if path == conf.MetadataDir {
				kind = "metadata"
			}
			fmt.Fprintf(c.out, "Formatting %s directory %s.\n", kind, path)
		}
	}
	if formatted == 0 {
		fmt.Fprintln(c.out, "All of the log directories are already formatted.")
	}
	return nil
}

func storageInfo(c *call) error {
	conf, err := nodeConfig(c)
	if err != nil {
		return err
	}
	var found, problems []string
	metadata := ""
	for _, path := range allDirs(conf) {
		data, err := os.ReadFile(filepath.Join(path, "meta.properties"))
		switch {
		case err == nil:
			found = append(found, path)
			if metadata == "" {
				metadata = metaLine(string(data))
			}
		case errors.Is(err, os.ErrNotExist):
			if _, err := os.Stat(path); err != nil {
				problems = append(problems, path+" does not exist")
			} else {
				found, problems = append(found, path), append(problems, path+" is not formatted.")
			}
		default:
			return err
		}
	}
	if len(found) > 0 {
		fmt.Fprintf(c.out, "Found log director%s:\n", map[bool]string{true: "y", false: "ies"}[len(found) == 1])
		for _, path := range found {
			fmt.Fprintln(c.out, "  "+path)
		}
		fmt.Fprintln(c.out)
	}
	if metadata != "" {
		fmt.Fprintf(c.out, "Found metadata: %s\n\n", metadata)
	}
	if len(problems) == 0 {
		return nil
	}
	fmt.Fprintf(c.out, "Found problem%s:\n", map[bool]string{true: "", false: "s"}[len(problems) == 1])
	for _, p := range problems {
		fmt.Fprintln(c.out, "  "+p)
	}
	fmt.Fprintln(c.out)
	return statusError(1)
}

// metaLine is a meta.properties as Kafka prints it.
func metaLine(text string) string {
	var fields []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			fields = append(fields, line)
		}
	}
	slices.Sort(fields)
	return "{" + strings.Join(fields, ", ") + "}"
}
