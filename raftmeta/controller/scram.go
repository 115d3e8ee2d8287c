package controller

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
	"kraft/wire/sasl"
)

// ScramChange sets a credential of a user, or removes it.
type ScramChange struct {
	User           string
	Mechanism      int8
	Remove         bool
	Iterations     int32
	Salt           []byte
	SaltedPassword []byte
}

// scramSince is the level of metadata.version, Kafka's 3.5-IV2, that brought the record.
const scramSince = 11

// AlterScram decides on the changes of one request, as Kafka's ScramControlManager does (KIP-554). A user may be in a request once. The changes
// of other users are made though some are refused; errs has the users who are, by their names.
func AlterScram(m *image.Image, changes []ScramChange) (records []*image.Record, errs map[string]error) {
	errs = map[string]error{}
	good := map[string][]*image.Record{}
	var order []string
	for _, c := range changes {
		if errs[c.User] != nil { // the first fault counts
			continue
		}
		if _, twice := good[c.User]; twice {
			delete(good, c.User)
			errs[c.User] = fmt.Errorf("A user credential cannot be altered twice in the same request: %w", kerr.DuplicateResource)
			continue
		}
		r, err := alterScram(m, c)
		if err != nil {
			errs[c.User] = err
			continue
		}
		good[c.User] = r
		order = append(order, c.User)
	}
	for _, user := range order {
		records = append(records, good[user]...)
	}
	return records, errs
}

func alterScram(m *image.Image, c ScramChange) ([]*image.Record, error) {
	if m.Features["metadata.version"] < scramSince {
		return nil, fmt.Errorf("SCRAM needs metadata.version %d: %w", scramSince, kerr.UnsupportedVersion)
	}
	hash, known := sasl.ScramNumbered(c.Mechanism)
	switch {
	case c.User == "":
		return nil, fmt.Errorf("Username must not be empty: %w", kerr.UnacceptableCredential)
	case !known:
		return nil, fmt.Errorf("Unknown SCRAM mechanism: %w", kerr.UnsupportedSaslMechanism)
	case !c.Remove && c.Iterations < sasl.MinIterations:
		return nil, fmt.Errorf("Too few iterations: %w", kerr.UnacceptableCredential)
	case !c.Remove && c.Iterations > sasl.MaxIterations:
		return nil, fmt.Errorf("Too many iterations: %w", kerr.UnacceptableCredential)
	}
	mechanism := image.ScramMechanism(c.Mechanism)
	if c.Remove {
		old, ok := m.Scram(c.User, mechanism)
		if !ok {
			return nil, fmt.Errorf("Attempt to delete a user credential that does not exist: %w", kerr.ResourceNotFound)
		}
		return []*image.Record{image.RemoveScram(old)}, nil
	}
	stored, server := hash.Keys(c.SaltedPassword)
	return []*image.Record{image.SetScram(&image.ScramCredential{User: c.User, Mechanism: mechanism, Salt: c.Salt, StoredKey: stored, ServerKey: server, Iterations: c.Iterations})}, nil
}
