package command

import (
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"kraft/cli/config"
)

// runningNodes finds the processes of this program that run nodes.
func runningNodes() (out []runningNode, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", e.Name())
		exe, err := os.Readlink(filepath.Join(dir, "exe"))
		if err != nil || strings.TrimSuffix(exe, " (deleted)") != self {
			continue // it may belong to somebody else, or have ended
		}
		line, err := os.ReadFile(filepath.Join(dir, "cmdline"))
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimSuffix(string(line), "\x00"), "\x00")
		if values, ok := nodeOf(args, filepath.Join(dir, "cwd")); ok {
			out = append(out, runningNode{pid, values})
		}
	}
	return out, nil
}

// nodeOf reads the settings of a node off its command line; ok says that it is one's.
func nodeOf(args []string, cwd string) (values map[string]string, ok bool) {
	values = map[string]string{}
	ok = findServerScript(args[0]) == "kafka-server-start"
	for i := 1; i < len(args); i++ {
		name, value, inline := strings.Cut(strings.TrimLeft(args[i], "-"), "=")
		if !strings.HasPrefix(args[i], "-") {
			if args[i] == "server" || findServerScript(args[i]) == "kafka-server-start" {
				ok = true
			} else if file, err := config.ReadFile(inDir(cwd, args[i])); err == nil {
				maps.Copy(values, file)
			}
			continue
		}
		if name != "node-id" && name != "data" && name != "override" {
			continue
		}
		if !inline && i+1 < len(args) {
			i++
			value = args[i]
		}
		switch name {
		case "node-id":
			values["node.id"] = value
		case "data":
			ok = true
		case "override":
			if k, v, err := config.ParseOverride(value); err == nil {
				values[k] = v
			}
		}
	}
	return values, ok
}

func inDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

func terminate(p *os.Process) error { return p.Signal(syscall.SIGTERM) }

// openFiles is how many files a process has open, and may have; ok is false where that cannot be seen.
func openFiles(pid int) (open, limit int, ok bool) {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	entries, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return 0, 0, false
	}
	limits, err := os.ReadFile(filepath.Join(dir, "limits"))
	if err != nil {
		return 0, 0, false
	}
	for line := range strings.Lines(string(limits)) {
		if rest, found := strings.CutPrefix(line, "Max open files"); found && len(strings.Fields(rest)) > 0 {
			limit, err = strconv.Atoi(strings.Fields(rest)[0])
			return len(entries), limit, err == nil
		}
	}
	return 0, 0, false
}
