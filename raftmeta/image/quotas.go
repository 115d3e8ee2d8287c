package image

import (
	"maps"
	"slices"
	"strings"
)

// Quota is what users, clients or addresses may take (KIP-546). It is never changed in place.
type Quota struct {
	Entity []*QuotaEntity // by type, each type once
	Values map[string]float64
}

// Types of the parts of an entity, and the quota of addresses.
const (
	UserEntity     = "user"
	ClientEntity   = "client-id"
	AddressEntity  = "ip"
	ConnectionRate = "connection_creation_rate"
)

// quotaKey is an entity's key: types and names, a default before all names.
func quotaKey(entity []*QuotaEntity) string {
	var b strings.Builder
	for _, e := range entity {
		b.WriteString(e.Type)
		if e.Name == nil {
			b.WriteString("\x00\x00")
		} else {
			b.WriteString("\x00\x01" + *e.Name + "\x00")
		}
	}
	return b.String()
}

// Quota finds the quotas of an entity, whose parts are in the order of their types.
func (m *Image) Quota(entity []*QuotaEntity) (*Quota, bool) { return m.quotas.Get(quotaKey(entity)) }

// Quotas calls each with all quotas, in an order that does not change.
func (m *Image) Quotas(each func(*Quota)) {
	m.quotas.Scan(func(_ string, q *Quota) bool {
		each(q)
		return true
	})
}

func (m *Image) setQuota(r *ClientQuotaRecord) {
	q := &Quota{Entity: r.Entity, Values: map[string]float64{}}
	if old, ok := m.Quota(r.Entity); ok {
		maps.Copy(q.Values, old.Values)
	}
	if r.Remove {
		delete(q.Values, r.Key)
	} else {
		q.Values[r.Key] = r.Value
	}
	if len(q.Values) == 0 {
		m.quotas.Delete(quotaKey(r.Entity))
		return
	}
	m.quotas.Set(quotaKey(r.Entity), q)
}

func (q *Quota) records() (out []*Record) {
	for _, key := range slices.Sorted(maps.Keys(q.Values)) {
		out = append(out, &Record{Kind: &Record_ClientQuota{&ClientQuotaRecord{Entity: q.Entity, Key: key, Value: q.Values[key]}}})
	}
	return out
}
