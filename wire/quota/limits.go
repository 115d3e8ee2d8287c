// Package quota decides how long clients that take more than their quotas are throttled (Kafka's ClientQuotaManager, KIP-13, 124, 219, 599 and 612).
package quota

import "math"

// Kind is what a quota is of.
type Kind int

const (
	Produce   Kind = iota // bytes of Produce requests, per second
	Fetch                 // bytes of answers to Fetch, per second
	Request               // time in which requests are handled, in percent of one processor
	Mutations             // partitions that are created or deleted, per second
	kinds
)

// Keys are Kafka's names of the quotas.
var Keys = [kinds]string{"producer_byte_rate", "consumer_byte_rate", "request_percentage", "controller_mutation_rate"}

// Part is one part of an Entity: a name, or with Default each that has no quota by its own name. The zero Part is none.
type Part struct {
	Default bool
	Name    string
}

// Entity is who a quota is set for: a user, a client id, or a client id of a user.
type Entity struct{ User, Client Part }

// Limits are all quotas of users and clients. The zero Limits are none. Limits that are in use must not change.
type Limits [kinds]map[Entity]float64

// Set adds a quota, unless key is none of Keys, or value is infinite.
func (l *Limits) Set(e Entity, key string, value float64) {
	for k, known := range Keys {
		if key != known || math.IsInf(value, 1) {
			continue
		}
		if l[k] == nil {
			l[k] = map[Entity]float64{}
		}
		l[k][e] = value
	}
}

// client is who shares a quota: all clients of a user, all of a name whoever they are, or those of a user and a name.
type client struct{ user, id string }

// find returns the quota that counts for a client of a user, and who shares it (KIP-55).
func (l *Limits) find(k Kind, user, id string) (limit float64, who client, ok bool) {
	if len(l[k]) == 0 {
		return 0, who, false
	}
	theUser, theClient, others := Part{Name: user}, Part{Name: id}, Part{Default: true}
	for _, e := range [...]Entity{
		{theUser, theClient}, {theUser, others}, {User: theUser},
		{others, theClient}, {others, others}, {User: others},
		{Client: theClient}, {Client: others},
	} {
		if limit, ok = l[k][e]; !ok {
			continue
		}
		if e.User != (Part{}) {
			who.user = user
		}
		if e.Client != (Part{}) {
			who.id = id
		}
		return limit, who, true
	}
	return 0, who, false
}
