package cli

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

// readyDescriptor names, in a daemon's environment, the descriptor on which its starter waits.
const readyDescriptor = "KRAFT_READY_FD"

// notifyReady tells who waits for it that the node serves clients: systemd (Type=notify), and who started it as a daemon.
func notifyReady() error {
	if n, err := strconv.Atoi(os.Getenv(readyDescriptor)); err == nil {
		f := os.NewFile(uintptr(n), "ready")
		defer f.Close()
		if _, err := io.WriteString(f, readyWord); err != nil {
			return fmt.Errorf("tell the starter that all is ready: %w", err)
		}
	}
	return notifySystemd("READY=1")
}

const readyWord = "ready\n"

// notifySystemd sends a state by sd_notify's protocol, if systemd listens.
func notifySystemd(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	if path[0] == '@' { // an abstract socket
		path = "\x00" + path[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// writePID puts this process's id into a file, until the returned function is called.
func writePID(path string) (remove func(), err error) {
	if path == "" {
		return func() {}, nil
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("cannot write --pid-file: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}
