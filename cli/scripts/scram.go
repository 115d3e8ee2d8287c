package scripts

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"

	"kraft/wire/sasl"
)

// scramValue is a credential in --add-config, as Kafka's tool takes it.
var scramValue = regexp.MustCompile(`^(?:iterations=(-?[0-9]*),)?password=(.*)$`)

// defaultScramIterations are Kafka's tool's.
const defaultScramIterations = sasl.MinIterations

// alterScram changes a user's credentials, and reports whether there was anything of the kind to do.
func (k *configsCall) alterScram(user entity, add map[string]string) (done bool, err error) {
	var deletions []kadm.DeleteSCRAM
	var upsertions []kadm.UpsertSCRAM
	others := 0
	for _, key := range slices.Sorted(maps.Keys(add)) {
		h, ok := sasl.ScramNamed(key)
		if !ok {
			others++
			continue
		}
		parts := scramValue.FindStringSubmatch(add[key])
		if parts == nil {
			return false, fmt.Errorf("Invalid credential property %s=..., it is %s=[iterations=8192,password=PASSWORD]", key, key)
		}
		iterations := defaultScramIterations
		if parts[1] != "" && parts[1] != "-1" {
			if iterations, err = strconv.Atoi(parts[1]); err != nil {
				return false, fmt.Errorf("%s: iterations=%s is no number", key, parts[1])
			}
		}
		if iterations < sasl.MinIterations {
			return false, fmt.Errorf("Iterations %d is less than the minimum %d required for %s", iterations, sasl.MinIterations, key)
		}
		upsertions = append(upsertions, kadm.UpsertSCRAM{Mechanism: kadm.ScramMechanism(h.Number), Iterations: int32(iterations), Password: parts[2]})
	}
	for _, key := range k.deleted() {
		if h, ok := sasl.ScramNamed(key); ok {
			deletions = append(deletions, kadm.DeleteSCRAM{Mechanism: kadm.ScramMechanism(h.Number)})
		} else {
			others++
		}
	}
	switch {
	case len(upsertions)+len(deletions) == 0:
		return false, nil
	case user.name == nil:
		return false, errors.New("The use of --entity-default or --user-defaults is not allowed with User SCRAM Credentials using --bootstrap-server.")
	case others > 0:
		return false, errors.New("Cannot alter both quota and SCRAM credential configs simultaneously for 'users' using --bootstrap-server.")
	}
	for i := range deletions {
		deletions[i].User = *user.name
	}
	for i := range upsertions {
		upsertions[i].User = *user.name
	}
	altered, err := kadm.NewClient(k.client).AlterUserSCRAMs(k.ctx, deletions, upsertions)
	if err != nil {
		return false, err
	}
	for _, a := range altered {
		if a.Err != nil {
			return false, fmt.Errorf("%s: %w", a.ErrMessage, a.Err)
		}
	}
	k.completed(user.name, "user", "users")
	return true, nil
}

// describeScram prints the credentials of a user, or of all.
func (k *configsCall) describeScram(user entity) error {
	var names []string
	if user.name != nil {
		names = append(names, *user.name)
	}
	found, err := kadm.NewClient(k.client).DescribeUserSCRAMs(k.ctx, names...)
	if err != nil {
		return err
	}
	for _, u := range found.Sorted() {
		if u.Err != nil {
			if user.name == nil || !strings.Contains(u.Err.Error(), "RESOURCE_NOT_FOUND") {
				return fmt.Errorf("%s: %w", u.ErrMessage, u.Err)
			}
			continue
		}
		var has []string
		for _, c := range u.CredInfos {
			has = append(has, fmt.Sprintf("%s=iterations=%d", c.Mechanism, c.Iterations))
		}
		fmt.Fprintf(k.out, "SCRAM credential configs for user-principal '%s' are %s\n", u.User, strings.Join(has, ", "))
	}
	return nil
}
