package harness

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Terminal is a pseudo-terminal in which a program runs, as somebody sees it.
type Terminal struct {
	Cmd    *exec.Cmd
	master *os.File
	done   chan struct{}

	mu  sync.Mutex
	out []byte
}

// InTerminal starts a program in a pseudo-terminal of 100 columns, which ends with the test.
func InTerminal(t testing.TB, cmd *exec.Cmd) *Terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	term := &Terminal{Cmd: cmd, master: master, done: make(chan struct{})}
	go func() {
		defer close(term.done)
		buf := make([]byte, 4096)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.out = append(term.out, buf[:n]...)
			term.mu.Unlock()
			if err != nil {
				break // EIO once the program has ended
			}
		}
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-term.done
		_ = master.Close()
	})
	return term
}

// Type types text; \x03 is Ctrl-C, \x04 Ctrl-D.
func (term *Terminal) Type(text string) { _, _ = io.WriteString(term.master, text) }

// Screen is everything that was printed so far, what was typed included.
func (term *Terminal) Screen() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return string(term.out)
}

// Await waits until something is on the screen.
func (term *Terminal) Await(t testing.TB, timeout time.Duration, shows func(screen string) bool) {
	t.Helper()
	if err := Eventually(timeout, func() error {
		if !shows(term.Screen()) {
			return fmt.Errorf("the terminal shows: %s", term.Screen())
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

// Exit waits for the program's end and returns its status.
func (term *Terminal) Exit(t testing.TB, timeout time.Duration) int {
	t.Helper()
	select {
	case <-term.done:
	case <-time.After(timeout):
		t.Fatalf("it runs after %v; the terminal shows: %s", timeout, term.Screen())
	}
	return term.Cmd.ProcessState.ExitCode()
}
