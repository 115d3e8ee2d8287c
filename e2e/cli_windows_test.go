package e2e

import "os/exec"

// asNobody exists for the Unix test that needs it; Windows has no user 0 that would run it.
func asNobody(*exec.Cmd) {}
