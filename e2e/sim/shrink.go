package sim

import (
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Pieces names what a plan can do without, the largest first.
func (p *Plan) Pieces() []string {
	var out []string
	add := func(name string, count int) {
		for range count {
			out = append(out, name)
		}
	}
	add("observer", int(p.Observers-p.operated.observers))
	add("topic", p.Topics-1)
	add("partition", int(p.Partitions-p.operated.partitions)-1)
	if p.Operator {
		add("operator", 1)
	}
	if p.Rules {
		add("rules", 1)
	}
	if p.Meet {
		add("meet", 1)
	}
	if p.Secured {
		add("secured", 1)
	}
	if p.Late {
		add("late", 1)
	}
	add("administrator", p.Administrators)
	add("visitor", p.Visitors)
	add("member", p.Members)
	add("transactor", p.Transactors)
	if p.Recreate {
		add("recreator", 1)
	}
	if p.Idempotent+p.Plain > 1 {
		add("plain", p.Plain)
		add("idempotent", p.Idempotent-p.operated.idempotent)
	}
	for i := range p.Faults {
		out = append(out, "f"+strconv.Itoa(i))
	}
	return out
}

// Less is the plan without some of its pieces; the name of a kind of fault is for all of them. The instants of the faults that stay do not move.
func (p *Plan) Less(pieces []string) *Plan {
	q := *p
	q.Faults = nil
	for i, f := range p.Faults {
		if slices.Contains(pieces, "f"+strconv.Itoa(i)) || slices.Contains(pieces, string(f.Kind)) {
			f.Kind = ""
		}
		q.Faults = append(q.Faults, f)
	}
	for _, piece := range pieces {
		switch piece {
		case "observer":
			q.Observers--
		case "topic":
			q.Topics, q.Unclean = q.Topics-1, false
		case "partition":
			q.Partitions--
		case "operator":
			q.Operator, q.operated = false, operated{}
			q.Settings = maps.Clone(p.Settings)
			delete(q.Settings, "log.segment.delete.delay.ms")
			delete(q.Settings, "log.retention.check.interval.ms")
			q.Observers, q.Partitions, q.Idempotent = q.Observers-p.operated.observers, q.Partitions-p.operated.partitions, q.Idempotent-p.operated.idempotent
		case "rules":
			q.Rules = false
			q.Settings = maps.Clone(q.Settings)
			delete(q.Settings, "metadata.log.max.record.bytes.between.snapshots")
			if !q.Operator {
				delete(q.Settings, "log.retention.check.interval.ms")
			}
		case "meet":
			q.Meet = false
		case "secured":
			q.Secured = false
		case "late":
			q.Late = false
		case "administrator":
			q.Administrators--
		case "visitor":
			q.Visitors--
		case "recreator":
			q.Recreate = false
		case "member":
			q.Members--
		case "transactor":
			if q.Transactors--; q.Transactors == 0 {
				q.Settings = maps.Clone(q.Settings)
				delete(q.Settings, "transaction.state.log.num.partitions")
				delete(q.Settings, "transaction.abort.timed.out.transaction.cleanup.interval.ms")
			}
		case "plain":
			q.Plain--
		case "idempotent":
			q.Idempotent--
		}
	}
	return &q
}

// Shrink takes pieces from a plan as long as it goes on to fail, which fails says of what is left.
func (p *Plan) Shrink(fails func(pieces []string) bool) (pieces []string) {
	for _, piece := range p.Pieces() {
		if candidate := append(slices.Clone(pieces), piece); fails(candidate) {
			pieces = candidate
		}
	}
	return pieces
}

// ParsePieces reads what Plan.Pieces names, with commas.
func ParsePieces(text string) []string {
	if text == "" {
		return nil
	}
	return strings.Split(text, ",")
}
