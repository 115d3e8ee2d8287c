package command

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

// readyDescriptor names, in a daemon's environment, the descriptor on which its starter waits.
const readyDescriptor = "KRAFT_READY_FD"

// Words that a node sends to the process that started it as a daemon.
const (
	readyWord   = "ready\n"
	waitingWord = "waiting: " // and what for
)

// notifyReady tells systemd (Type=notify) and the process that started the node as a daemon that the node serves clients.
func notifyReady() error {
	if err := tellStarter(readyWord); err != nil {
		return fmt.Errorf("report readiness to the parent process: %w", err)
	}
	return notifySystemd("READY=1")
}

// notifyWaiting has the process that started the node as a daemon return: the node waits for others, which the same script may start next.
func notifyWaiting(what string) {
	_ = tellStarter(waitingWord + what + "\n") // a starter that has ended needs no word
}

// tellStarter sends the one word that a daemon's starter waits for, unless it was sent before.
func tellStarter(word string) error {
	n, err := strconv.Atoi(os.Getenv(readyDescriptor))
	if err != nil {
		return nil
	}
	_ = os.Unsetenv(readyDescriptor)
	f := os.NewFile(uintptr(n), "ready")
	defer f.Close()
	_, err = io.WriteString(f, word)
	return err
}

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
