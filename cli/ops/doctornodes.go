package ops

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Limits of what a node's machine should be like.
const (
	tolerableSkew = 2 * time.Second // HTTP tells time in seconds
	fewFiles      = 10_000          // each segment, index and connection takes one
)

// controllerClock holds this machine's clock against the active controller's, which tells its own in DescribeQuorum.
func controllerClock(ctx context.Context, client *kgo.Client) []Finding {
	begun := time.Now()
	_, q, err := Quorum(ctx, client)
	if err != nil {
		return nil // a cluster without a quorum, or one that does not tell strangers of it
	}
	for _, r := range q.CurrentVoters {
		if r.ReplicaID == q.LeaderID && r.LastCaughtUpTimestamp > 0 {
			return []Finding{clock(fmt.Sprintf("controller %d", r.ReplicaID), time.UnixMilli(r.LastCaughtUpTimestamp), begun)}
		}
	}
	return nil
}

func clock(of string, theirs, asked time.Time) Finding {
	what := "clock of " + of
	ours := asked.Add(time.Since(asked) / 2)
	if skew := theirs.Sub(ours); skew.Abs() > tolerableSkew {
		return Finding{Warning, what, fmt.Sprintf("differs from this machine's by %v: retention, timestamps and lag in seconds depend on it", skew.Round(time.Millisecond))}
	}
	return Finding{Fine, what, "agrees with this machine's"}
}

// ExamineAdmin looks at what a node's admin listener tells of its process: its clock, its open files, whether it is ready.
func ExamineAdmin(ctx context.Context, address string) (out []Finding) {
	what := "admin " + address
	get := func(path string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+path, nil)
		if err != nil {
			return nil, err
		}
		return http.DefaultClient.Do(req)
	}
	begun := time.Now()
	resp, err := get("/readyz")
	if err != nil {
		return []Finding{{Failure, what, "does not answer: " + err.Error()}}
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		out = append(out, Finding{Failure, what, "is not ready to serve clients"})
	} else {
		out = append(out, Finding{Fine, what, "serves clients"})
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		out = append(out, clock(address, date.Add(time.Second/2), begun))
	}
	if resp, err = get("/metrics"); err != nil {
		return append(out, Finding{Warning, what, "tells no metrics: " + err.Error()})
	}
	defer resp.Body.Close()
	values := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil && strings.HasPrefix(name, "process_") {
			values[name] = n
		}
	}
	if limit := int(values["process_max_fds"]); limit > 0 {
		out = append(out, OpenLimit(what, int(values["process_open_fds"]), limit))
	}
	return out
}

// OpenLimit judges how many files a process may open.
func OpenLimit(what string, open, limit int) Finding {
	switch {
	case open > limit/10*9:
		return Finding{Failure, what, fmt.Sprintf("has %d of %d files open: raise the limit (LimitNOFILE of systemd, ulimit -n)", open, limit)}
	case limit < fewFiles:
		return Finding{Warning, what, fmt.Sprintf("may open %d files only: a broker with many partitions wants %d or more (LimitNOFILE of systemd, ulimit -n)", limit, fewFiles)}
	}
	return Finding{Fine, what, fmt.Sprintf("has %d of %d files open", open, limit)}
}
