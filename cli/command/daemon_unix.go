//go:build unix

package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"
)

// daemonVariable says, in a process's environment, that it is the daemon and not its starter.
const daemonVariable = "KRAFT_DAEMON"

// startDaemon starts this command line again, detached from the terminal, and returns when that serves clients, or with why it
// does not.
func startDaemon(c *cli.Context, logPath string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := openLogFile(logPath)
	if err != nil {
		return badUseOf(err)
	}
	begins, err := log.f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	ready, told, err := os.Pipe()
	if err != nil {
		return err
	}
	defer ready.Close()
	cmd := exec.Command(program, os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdout, cmd.Stderr = log.f, log.f
	cmd.ExtraFiles = []*os.File{told}
	const firstExtra = 3
	cmd.Env = append(os.Environ(), daemonVariable+"=1", fmt.Sprintf("%s=%d", readyDescriptor, firstExtra))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start in the background: %w", err)
	}
	_ = told.Close()
	stop := context.AfterFunc(c.Context, func() { _ = cmd.Process.Signal(syscall.SIGTERM) })
	word, err := io.ReadAll(ready)
	if !stop() {
		return errors.Join(errors.New("interrupted before it served clients: "+lastLine(logPath, begins)), ignoreExit(cmd.Wait()))
	}
	what, waits := strings.CutPrefix(string(word), waitingWord)
	if waits || string(word) == readyWord {
		fmt.Fprintf(c.App.Writer, "kraft runs as process %d, its log is %s", cmd.Process.Pid, logPath)
		if waits {
			fmt.Fprint(c.App.Writer, "; it is "+strings.TrimSpace(what))
		}
		fmt.Fprintln(c.App.Writer)
		return cmd.Process.Release()
	}
	return errors.Join(errors.New("it did not start: "+lastLine(logPath, begins)), err, ignoreExit(cmd.Wait()))
}

func isDaemon() bool { return os.Getenv(daemonVariable) != "" }

// ignoreExit drops the error that only says that a process ended in failure.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// lastLine is the last line of what was written to a file from some byte on.
func lastLine(path string, from int64) string {
	data, err := os.ReadFile(path)
	if err != nil || int64(len(data)) < from {
		return "see " + path
	}
	lines := strings.Split(strings.TrimSpace(string(data[from:])), "\n")
	return strings.TrimPrefix(lines[len(lines)-1], "kraft: ")
}

// reopenOnHangup opens log files again at each SIGHUP, as logrotate expects, until stop.
func reopenOnHangup(l logFiles, failed func(error)) (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range hangups {
			if err := l.reopen(); err != nil {
				failed(err)
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(hangups)
		<-done
	}
}
