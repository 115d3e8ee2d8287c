package groups

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/groups/runtime"
	"kraft/groups/transaction"
	"kraft/wire"
	"kraft/wire/acl"
)

// describe answers DescribeTransactions (KIP-664) for ids that this node coordinates.
func (t *transactions) describe(ctx *wire.Request, req *kmsg.DescribeTransactionsRequest) (*kmsg.DescribeTransactionsResponse, error) {
	resp := kmsg.NewPtrDescribeTransactionsResponse()
	for _, id := range req.TransactionalIDs {
		var out kmsg.DescribeTransactionsResponseTransactionState
		err := ctx.May(acl.Describe, acl.TransactionalID, id)
		switch {
		case err != nil:
		case id == "":
			err = kerr.InvalidRequest
		default:
			out, err = askTransaction[kmsg.DescribeTransactionsResponseTransactionState](ctx.Context(), t, id, func(c *transaction.Coordinator, call runtime.Call) runtime.Effects {
				return c.Describe(call, id)
			})
		}
		if err != nil {
			out = kmsg.NewDescribeTransactionsResponseTransactionState()
			out.TransactionalID, out.ErrorCode = id, wire.ErrorCode(err)
		}
		out.Topics = slices.DeleteFunc(out.Topics, func(t kmsg.DescribeTransactionsResponseTransactionStateTopic) bool {
			return ctx.May(acl.Describe, acl.Topic, t.Topic) != nil
		})
		resp.TransactionStates = append(resp.TransactionStates, out)
	}
	return resp, nil
}

// transactionStates are the names of states that ListTransactions filters by.
var transactionStates = []string{"Empty", "Ongoing", "PrepareCommit", "PrepareAbort", "CompleteCommit", "CompleteAbort", "Dead", "PrepareEpochFence"}

// maxPattern bounds the length of a pattern in bytes: compiled it is many times as large.
const maxPattern = 4096

// list answers ListTransactions (KIP-664, KIP-994, KIP-1152) with the ids that this node coordinates.
func (t *transactions) list(ctx *wire.Request, req *kmsg.ListTransactionsRequest) (*kmsg.ListTransactionsResponse, error) {
	resp := kmsg.NewPtrListTransactionsResponse()
	matches := func(string) bool { return true }
	if p := req.TransactionalIDPattern; p != nil && *p != "" {
		re, err := (*regexp.Regexp)(nil), error(kerr.InvalidRegularExpression)
		if len(*p) <= maxPattern {
			re, err = regexp.Compile(`\A(?:` + *p + `)\z`)
		}
		if err == nil {
			_, err = regexp.Compile(*p) // by itself, too
		}
		if err != nil {
			resp.ErrorCode = kerr.InvalidRegularExpression.Code
			return resp, nil
		}
		matches = re.MatchString
	}
	for _, s := range req.StateFilters {
		if !slices.Contains(transactionStates, s) {
			resp.UnknownStateFilters = append(resp.UnknownStateFilters, s)
		}
	}
	now := time.Now().UnixMilli()
	for _, l := range t.host.All() {
		ids, err := runtime.Ask[[]transaction.Listed](ctx.Context(), l, false, func(c *transaction.Coordinator, call runtime.Call) runtime.Effects { return c.List(call) })
		if errors.Is(err, kerr.NotCoordinator) {
			continue // it has moved meanwhile, and is listed elsewhere
		}
		if err != nil {
			resp = kmsg.NewPtrListTransactionsResponse()
			resp.ErrorCode = wire.ErrorCode(err)
			return resp, nil
		}
		for _, s := range ids {
			switch {
			case len(req.StateFilters) > 0 && !slices.Contains(req.StateFilters, s.State),
				len(req.ProducerIDFilters) > 0 && !slices.Contains(req.ProducerIDFilters, s.ProducerID),
				req.DurationFilterMillis >= 0 && now-s.Started <= req.DurationFilterMillis,
				!matches(s.ID),
				ctx.May(acl.Describe, acl.TransactionalID, s.ID) != nil:
				continue
			}
			o := kmsg.NewListTransactionsResponseTransactionState()
			o.TransactionalID, o.ProducerID, o.TransactionState = s.ID, s.ProducerID, s.State
			resp.TransactionStates = append(resp.TransactionStates, o)
		}
	}
	slices.SortFunc(resp.TransactionStates, func(a, b kmsg.ListTransactionsResponseTransactionState) int {
		return strings.Compare(a.TransactionalID, b.TransactionalID)
	})
	return resp, nil
}
