package transactions

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/e2e/harness"
	"kraft/wire"
)

// TestTwoPhase: InitProducerId 6 (KIP-939) with all combinations of its fields has the same answers as Apache Kafka 4.4.0's, where two-phase
// commit is enabled and where it is not; and ApiVersions tells of it.
func TestTwoPhase(t *testing.T) {
	for _, enabled := range []string{"true", "false"} {
		extra := []string{"transaction.state.log.num.partitions=1", "offsets.topic.num.partitions=1", "unstable.api.versions.enable=true", "transaction.two.phase.commit.enable=" + enabled}
		var overrides []string
		for _, o := range extra {
			overrides = append(overrides, "--override", o)
		}
		servers := []*server{connect(t, "Apache Kafka", harness.NewKafka(t, extra...).Addr), connect(t, "kraft", harness.NewKraft(t, overrides...).Addr)}
		told := make([][]string, len(servers))
		for i, s := range servers {
			told[i] = twoPhase(t, s)
		}
		for i, want := range told[0] {
			if told[1][i] != want {
				t.Errorf("enabled: %s\n    %s\n      kraft: %s", enabled, want, told[1][i])
			}
		}
	}
}

func twoPhase(t *testing.T, s *server) (told []string) {
	w := s.begin(t, "1")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	versions, err := w.ask(ctx, kmsg.NewPtrApiVersionsRequest(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range versions.(*kmsg.ApiVersionsResponse).ApiKeys {
		if k.ApiKey == 22 {
			told = append(told, fmt.Sprintf("InitProducerId %d to %d", k.MinVersion, k.MaxVersion))
		}
	}
	some, none := "id", ""
	for _, id := range []*string{nil, &none, &some} {
		for _, timeout := range []int32{60_000, 0, -1, 1_000_000_000} {
			for flags := range 4 {
				for _, p := range []pair{{-1, -1}, {-1, 0}, {1 << 40, 0}} {
					for _, version := range []int16{5, 6} {
						req := &wire.InitProducerIDRequest{Enable2PC: flags&1 > 0, KeepPreparedTxn: flags&2 > 0}
						req.TransactionalID, req.TransactionTimeoutMillis, req.ProducerID, req.ProducerEpoch = id, timeout, p.id, p.epoch
						what := fmt.Sprintf("version %d, timeout %d, pair %v, two phases %v, keep %v", version, timeout, p, req.Enable2PC, req.KeepPreparedTxn)
						if id != nil {
							what = fmt.Sprintf("%q, %s", *id, what)
						}
						var r *wire.InitProducerIDResponse
						if err := harness.Eventually(30*time.Second, func() error {
							resp, err := w.ask(ctx, req, version)
							if err != nil {
								return err
							}
							if r = resp.(*wire.InitProducerIDResponse); r.ErrorCode == kerr.CoordinatorLoadInProgress.Code {
								return kerr.CoordinatorLoadInProgress // it asks for producer ids
							}
							return nil
						}); err != nil {
							t.Fatalf("%s: %s: %v", s.who, what, err)
						}
						what += fmt.Sprintf(": %s, epoch %d, ongoing %d %d", code(r.ErrorCode), r.ProducerEpoch, r.OngoingProducerID, r.OngoingProducerEpoch)
						if id == &some {
							d := kmsg.NewPtrDescribeTransactionsRequest()
							d.TransactionalIDs = []string{some}
							resp, err := w.ask(ctx, d, 0)
							if err != nil {
								t.Fatal(err)
							}
							tx := resp.(*kmsg.DescribeTransactionsResponse).TransactionStates[0]
							what += fmt.Sprintf(", then %s %s with a timeout of %d", code(tx.ErrorCode), tx.State, tx.TimeoutMillis)
						}
						told = append(told, what)
					}
				}
			}
		}
	}
	return told
}
