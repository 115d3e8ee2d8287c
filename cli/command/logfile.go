package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
)

// logFile is a file that is appended to, and opened again by its name when it was moved away. Any goroutine may use it.
type logFile struct {
	path string

	mu sync.Mutex // guards f
	f  *os.File
}

func openLogFile(path string) (*logFile, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("cannot write the log: %w", err)
	}
	l := &logFile{path: path}
	return l, l.reopen()
}

// reopen opens the file that has the name now.
func (l *logFile) reopen() error {
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("cannot write the log: %w", err)
	}
	l.mu.Lock()
	before := l.f
	l.f = f
	l.mu.Unlock()
	if before != nil {
		_ = before.Close()
	}
	return nil
}

// Write implements io.Writer.
func (l *logFile) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Write(p)
}

// logFiles are those of one process.
type logFiles []*logFile

func (l *logFiles) open(path string) (io.Writer, error) {
	f, err := openLogFile(path)
	if err == nil {
		*l = append(*l, f)
	}
	return f, err
}

// reopen opens all again.
func (l logFiles) reopen() error {
	var failures []error
	for _, f := range l {
		failures = append(failures, f.reopen())
	}
	return errors.Join(failures...)
}
