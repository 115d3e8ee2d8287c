package controller

import (
	"fmt"
	"math"
	"net"
	"regexp"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
	"kraft/wire/quota"
)

// QuotaChange sets or removes one quota of an entity.
type QuotaChange struct {
	Key    string
	Value  float64
	Remove bool
}

// quotaKeys are the quotas of users and clients, and of addresses, each with the largest value that it may have; 0 is for those
// that need not be whole.
var (
	clientQuotas  = map[string]float64{quota.Keys[quota.Produce]: math.MaxInt64, quota.Keys[quota.Fetch]: math.MaxInt64, quota.Keys[quota.Request]: 0, quota.Keys[quota.Mutations]: 0}
	addressQuotas = map[string]float64{image.ConnectionRate: math.MaxInt32}
)

// hostName is what a host may be called. Whether there is one is not looked up here.
var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)

// AlterQuotas decides on changes to the quotas of one entity (KIP-546), as Kafka's ClientQuotaControlManager.
func AlterQuotas(m *image.Image, entity []*image.QuotaEntity, changes []QuotaChange) ([]*image.Record, error) {
	entity, keys, err := checkEntity(entity)
	if err != nil {
		return nil, err
	}
	current, _ := m.Quota(entity)
	var records []*image.Record
	for _, c := range changes {
		if c.Remove {
			if current == nil {
				continue
			}
			if _, ok := current.Values[c.Key]; !ok {
				continue
			}
		} else if err := checkQuota(keys, c.Key, c.Value); err != nil {
			return nil, err
		}
		records = append(records, &image.Record{Kind: &image.Record_ClientQuota{ClientQuota: &image.ClientQuotaRecord{Entity: entity, Key: c.Key, Value: c.Value, Remove: c.Remove}}})
	}
	return records, nil
}

// checkEntity brings an entity into order, and says which quotas it may have.
func checkEntity(entity []*image.QuotaEntity) ([]*image.QuotaEntity, map[string]float64, error) {
	invalid := func(format string, args ...any) ([]*image.QuotaEntity, map[string]float64, error) {
		return nil, nil, fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), kerr.InvalidRequest)
	}
	if len(entity) == 0 {
		return invalid("Invalid empty client quota entity")
	}
	keys, types := clientQuotas, map[string]bool{}
	for _, e := range entity {
		if e.Name != nil && *e.Name == "" {
			return invalid("Empty %s not supported", e.Type)
		}
		if types[e.Type] {
			return invalid("Invalid client quota entity, type %s is there twice", e.Type)
		}
		types[e.Type] = true
		switch e.Type {
		case image.UserEntity, image.ClientEntity:
		case image.AddressEntity:
			keys = addressQuotas
			if e.Name != nil && net.ParseIP(*e.Name) == nil && !hostName.MatchString(*e.Name) {
				return invalid("%s is not a valid IP or resolvable host.", *e.Name)
			}
		default:
			return invalid("Unhandled client quota entity type: %s", e.Type)
		}
	}
	if types[image.AddressEntity] && len(types) > 1 {
		return invalid("Invalid quota entity combination, IP entity should not be combined with User or ClientId")
	}
	entity = slices.Clone(entity)
	slices.SortFunc(entity, func(a, b *image.QuotaEntity) int { return strings.Compare(a.Type, b.Type) })
	return entity, keys, nil
}

func checkQuota(keys map[string]float64, key string, value float64) error {
	largest, ok := keys[key]
	switch {
	case !ok:
		return fmt.Errorf("Invalid configuration key %s: %w", key, kerr.InvalidRequest)
	case !(value > 0):
		return fmt.Errorf("Quota %s must be greater than 0: %w", key, kerr.InvalidRequest)
	case largest > 0 && value > largest:
		return fmt.Errorf("Proposed value for %s is too large for a %s.: %w", key, map[bool]string{true: "INT", false: "LONG"}[largest == math.MaxInt32], kerr.InvalidRequest)
	case largest > 0 && math.Abs(value-math.Round(value)) > 1e-6:
		return fmt.Errorf("%s cannot be a fractional value.: %w", key, kerr.InvalidRequest)
	}
	return nil
}

// QuotaFilter is a condition on one part of an entity: that it is this one, the default, or any.
type QuotaFilter struct {
	Type  string
	Match int8 // 0 exactly Name, 1 the default, 2 any
	Name  *string
}

// MatchQuotas lists the quotas whose entities fulfil all conditions, and have no other parts if strict.
func MatchQuotas(m *image.Image, filters []QuotaFilter, strict bool) (found []*image.Quota, err error) {
	types := map[string]bool{}
	for _, f := range filters {
		switch {
		case f.Type != image.UserEntity && f.Type != image.ClientEntity && f.Type != image.AddressEntity:
			if f.Type == "" {
				return nil, fmt.Errorf("Unexpected empty filter component entity type: %w", kerr.InvalidRequest)
			}
			return nil, fmt.Errorf("Custom entity type '%s' not supported: %w", f.Type, kerr.UnsupportedVersion)
		case types[f.Type]:
			return nil, fmt.Errorf("Duplicate %s filter component entity type: %w", f.Type, kerr.InvalidRequest)
		case f.Match < 0 || f.Match > 2:
			return nil, fmt.Errorf("Unknown match type %d: %w", f.Match, kerr.InvalidRequest)
		case (f.Match == 0) != (f.Name != nil):
			return nil, fmt.Errorf("Request specified match type %d with a match of another kind: %w", f.Match, kerr.InvalidRequest)
		}
		types[f.Type] = true
	}
	if types[image.AddressEntity] && len(types) > 1 {
		return nil, fmt.Errorf("Invalid entity filter component, IP filter component should not be used with User or ClientId: %w", kerr.InvalidRequest)
	}
	m.Quotas(func(q *image.Quota) {
		if strict && len(q.Entity) != len(filters) {
			return
		}
		for _, f := range filters {
			if !slices.ContainsFunc(q.Entity, func(e *image.QuotaEntity) bool { return f.matches(e) }) {
				return
			}
		}
		found = append(found, q)
	})
	return found, nil
}

func (f QuotaFilter) matches(e *image.QuotaEntity) bool {
	if e.Type != f.Type {
		return false
	}
	switch f.Match {
	case 0:
		return e.Name != nil && *e.Name == *f.Name
	case 1:
		return e.Name == nil
	}
	return true
}
