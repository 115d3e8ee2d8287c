package raftmeta

import (
	"context"

	"kraft/raftmeta/image"
)

// Commit commits records that no decision has made.
func (m *Meta) Commit(ctx context.Context, records ...*image.Record) error {
	return m.decide(ctx, func(*image.Image) ([]*image.Record, error) { return records, nil })
}
