package main

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"kraft/e2e/harness"
)

func toolOutput(jars, class string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	return harness.Run(ctx, harness.Tool(jars, class, args...))
}

// lastNumber finds the last match of a pattern with one number in it.
func lastNumber(text, pattern string) (float64, error) {
	all := regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1)
	if len(all) == 0 {
		return 0, fmt.Errorf("no %s in %q", pattern, text)
	}
	return strconv.ParseFloat(all[len(all)-1][1], 64)
}

// consumerRate reads records a second, without the time to join, from consumer-perf-test's table.
func consumerRate(text string) (float64, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) < 2 {
		return 0, fmt.Errorf("unexpected output %q", text)
	}
	names, values := strings.Split(lines[0], ","), strings.Split(lines[len(lines)-1], ",")
	for i, name := range names {
		if strings.TrimSpace(name) == "fetch.nMsg.sec" && i < len(values) {
			return strconv.ParseFloat(strings.TrimSpace(values[i]), 64)
		}
	}
	return 0, fmt.Errorf("no fetch.nMsg.sec in %q", text)
}
