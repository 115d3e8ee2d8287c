package defect

import (
	"errors"
	"strings"
	"testing"
)

// TestContain: a panic becomes an error that says where it happened, with a stack the first time only; other errors stay what they are.
func TestContain(t *testing.T) {
	broken := func() error { // the same line each time
		list := make([]int, len(t.Name()))
		list[len(list)]++
		return nil
	}
	for i, want := range []bool{true, false} {
		var e *Error
		if err := Contain("a test", broken); !errors.As(err, &e) {
			t.Fatalf("a panic gives %v", err)
		}
		if told := e.Stack != nil; told != want {
			t.Errorf("time %d: told the stack: %v", i, told)
		}
		if !strings.Contains(e.Error(), "TestContain") || !strings.Contains(e.Error(), "defect_test.go:13") || !strings.Contains(e.Error(), "out of range") {
			t.Errorf("%v", e)
		}
	}
	if got := Counts()["a test"]; got != 2 {
		t.Errorf("counted %d panics", got)
	}
	own := errors.New("own")
	if err := Contain("a test", func() error { return own }); err != own {
		t.Errorf("%v", err)
	}
	if err := Contain("a test", func() error { return nil }); err != nil {
		t.Errorf("%v", err)
	}
}
