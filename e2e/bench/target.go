package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"kraft/e2e/harness"
)

// target is a broker under measurement.
type target struct {
	dir      string
	start    starter
	o        options
	settings map[string]string

	process *harness.Process
	addr    string
	again   func() error // starts the broker on the same data after down
	stop    func(time.Duration) error
}

// starter starts a broker of one kind in t.dir.
type starter func(t *target) error

func startKraft(t *target) error {
	args := append([]string{}, t.o.kraft...)
	if t.settings != nil { // its own log is part of what is measured
		args = append(args, "--log-level", "debug")
	}
	for key, value := range t.settings {
		args = append(args, "--override", key+"="+value)
	}
	k, err := harness.StartKraft(filepath.Join(t.dir, "kraft"), args...)
	if err != nil {
		return err
	}
	t.process, t.addr = k.Process, k.Addr
	t.stop = func(d time.Duration) error { return k.Stop(d) }
	t.again = func() error {
		err := k.Start()
		t.process = k.Process
		return err
	}
	return nil
}

func startKafka(t *target) error {
	jars, err := harness.KafkaJars()
	if err != nil {
		return err
	}
	var lines []string
	for key, value := range t.settings {
		lines = append(lines, key+"="+value)
	}
	k, err := harness.StartKafka(jars, t.dir, lines...)
	if err != nil {
		return err
	}
	t.process, t.addr = k.Process, k.Addr
	t.stop = k.Stop
	t.again = func() error {
		err := k.Start()
		t.process = k.Process
		return err
	}
	return nil
}

func (t *target) up() error { return t.start(t) }

func (t *target) down() error { return t.stop(time.Minute) }

// cpu is the process's user and system time so far, in seconds.
func (t *target) cpu() float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", t.process.Cmd.Process.Pid))
	if err != nil {
		return 0
	}
	f := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	user, _ := strconv.ParseFloat(f[11], 64)
	system, _ := strconv.ParseFloat(f[12], 64)
	return (user + system) / 100 // clock ticks, 100 a second on Linux
}

// memory is the process's resident size in MB.
func (t *target) memory() float64 {
	size, err := t.process.Resident()
	if err != nil {
		return 0
	}
	return float64(size>>10) / 1000
}
