package ops

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestAdminFindings: a node with another clock, few files or no readiness is found by its admin listener.
func TestAdminFindings(t *testing.T) {
	for name, c := range map[string]struct {
		metrics string
		status  int
		clock   time.Duration
		want    []string // grades and words
	}{
		"well":      {"process_open_fds 100\nprocess_max_fds 1e+06\n", 200, 0, []string{"ok serves clients", "ok agrees", "ok has 100 of 1000000"}},
		"few files": {"process_open_fds 100\nprocess_max_fds 1024\n", 200, 0, []string{"ok serves", "ok agrees", "warning may open 1024"}},
		"no files":  {"process_open_fds 1020\nprocess_max_fds 1024\n", 200, 0, []string{"ok serves", "ok agrees", "FAILED has 1020 of 1024"}},
		"not ready": {"", 503, 0, []string{"FAILED is not ready", "ok agrees"}},
		"clock":     {"", 200, -time.Minute, []string{"ok serves", "warning differs from this machine's by -"}},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Date", time.Now().Add(c.clock).UTC().Format(http.TimeFormat))
				if r.URL.Path == "/readyz" {
					w.WriteHeader(c.status)
					return
				}
				_, _ = w.Write([]byte(c.metrics))
			}))
			defer server.Close()
			found := ExamineAdmin(context.Background(), strings.TrimPrefix(server.URL, "http://"))
			if len(found) != len(c.want) {
				t.Fatalf("%v", found)
			}
			for i, want := range c.want {
				if got := found[i].Grade + " " + found[i].Says; !strings.HasPrefix(got, want) {
					t.Errorf("%q, wanted %q", got, want)
				}
			}
		})
	}
	if found := ExamineAdmin(context.Background(), "127.0.0.1:1"); len(found) != 1 || found[0].Grade != Failure {
		t.Errorf("nobody there: %v", found)
	}
}
