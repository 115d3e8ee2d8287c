//go:build unix

package command

import (
	"errors"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"
)

// errBackground says that a process does not own its terminal: reading from it would stop the process.
var errBackground = errors.New("in the background")

// singleKeys has a terminal give keys at once, without a newline and without showing them. Ctrl-C goes on to work.
func singleKeys(in *os.File) (restore func(), err error) {
	fd := int(in.Fd())
	if owner, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err != nil || owner != unix.Getpgrp() {
		return nil, errBackground
	}
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, err
	}
	signal.Ignore(unix.SIGTTIN, unix.SIGTTOU) // which would stop all brokers where the shell has put this into the background
	now := *before
	now.Lflag &^= unix.ICANON | unix.ECHO
	if err := unix.IoctlSetTermios(fd, setTermios, &now); err != nil {
		return nil, err
	}
	continued := make(chan os.Signal, 1)
	signal.Notify(continued, unix.SIGCONT)
	go func() { // which ends with restore
		for range continued { // a shell has put the terminal back as it was
			if owner, err := unix.IoctlGetInt(fd, unix.TIOCGPGRP); err == nil && owner == unix.Getpgrp() {
				_ = unix.IoctlSetTermios(fd, setTermios, &now)
			}
		}
	}()
	return func() {
		signal.Stop(continued)
		close(continued)
		_ = unix.IoctlSetTermios(fd, setTermios, before)
	}, nil
}

// onHangup calls then when the terminal is closed.
func onHangup(then func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	go func() { // which ends with the process
		<-hangups
		then()
	}()
}
