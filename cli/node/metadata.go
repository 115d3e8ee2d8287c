package node

import (
	"context"

	"kraft/raftmeta"
	"kraft/raftmeta/active"
	"kraft/raftmeta/admin"
	"kraft/raftmeta/broker"
	"kraft/raftmeta/calls"
	"kraft/raftmeta/discovery"
	"kraft/wire"
)

// metadata is the cluster's metadata on this node, and what uses it before there are logs.
type metadata struct {
	meta      *raftmeta.Meta
	calls     *calls.Calls
	active    *active.Controller
	broker    *broker.Broker
	admin     *admin.Admin
	discovery *discovery.Discovery
}

func openMetadata(c raftmeta.Config) (*metadata, error) {
	meta, err := raftmeta.Open(c)
	if err != nil {
		return nil, err
	}
	m := &metadata{meta: meta, calls: calls.New(meta), active: active.New(meta)}
	m.broker = broker.New(meta, m.calls, m.active)
	m.admin = admin.New(meta, m.calls, m.active)
	m.discovery = discovery.New(meta, m.broker)
	return m, nil
}

// join returns when the quorum has a leader. From then on this node watches over brokers whenever it leads.
func (m *metadata) join(ctx context.Context) error {
	if err := m.meta.Join(ctx); err != nil {
		return err
	}
	m.active.Start()
	return nil
}

// registerHandlers adds what clients ask a broker about metadata.
func (m *metadata) registerHandlers(r *wire.Registry) {
	m.discovery.RegisterHandlers(r)
	m.admin.RegisterHandlers(r)
}

// registerControllerHandlers adds what brokers, and tools with --bootstrap-controller, ask a controller.
func (m *metadata) registerControllerHandlers(r *wire.Registry) {
	m.active.RegisterHandlers(r)
	wire.Handle(r, 0, 0, m.calls.Envelope(r))
	m.discovery.RegisterControllerHandlers(r)
	m.admin.RegisterHandlers(r)
}

func (m *metadata) close() error {
	m.broker.Close()
	m.calls.Close()
	m.active.Close()
	return m.meta.Close()
}
