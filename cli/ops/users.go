package ops

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"kraft/wire/sasl"
)

// User is a user who logs in by SCRAM.
type User struct {
	Name       string          `json:"name"`
	Mechanisms []UserMechanism `json:"mechanisms"`
}

// UserMechanism is one of a user's credentials.
type UserMechanism struct {
	Name       string `json:"name"`
	Iterations int32  `json:"iterations"`
}

// ScramMechanisms are the mechanisms that a user may have credentials for.
var ScramMechanisms = []string{sasl.SHA256.Name, sasl.SHA512.Name}

func scramMechanism(name string) (kadm.ScramMechanism, error) {
	if h, ok := sasl.ScramNamed(strings.ToUpper(name)); ok {
		return kadm.ScramMechanism(h.Number), nil
	}
	return 0, fmt.Errorf("%s is no mechanism of SCRAM: it is %s or %s", name, ScramMechanisms[0], ScramMechanisms[1])
}

// Users lists users with their credentials, all if none is named. A name that no user has is an error.
func Users(ctx context.Context, cl *kgo.Client, names ...string) ([]User, error) {
	found, err := kadm.NewClient(cl).DescribeUserSCRAMs(ctx, names...)
	if err != nil {
		return nil, err
	}
	var out []User
	for _, u := range found.Sorted() {
		if u.Err != nil {
			return nil, said(u.Err, u.ErrMessage)
		}
		user := User{Name: u.User}
		for _, c := range u.CredInfos {
			user.Mechanisms = append(user.Mechanisms, UserMechanism{c.Mechanism.String(), c.Iterations})
		}
		slices.SortFunc(user.Mechanisms, func(a, b UserMechanism) int { return strings.Compare(a.Name, b.Name) })
		out = append(out, user)
	}
	return out, nil
}

// SetPassword gives a user a password for some mechanisms, and makes the user if there is none.
func SetPassword(ctx context.Context, cl *kgo.Client, user, password string, mechanisms []string, iterations int32) error {
	for i, name := range mechanisms { // a request may name a user once
		m, err := scramMechanism(name)
		if err != nil {
			return err
		}
		if err := alterUser(ctx, cl, nil, []kadm.UpsertSCRAM{{User: user, Mechanism: m, Iterations: iterations, Password: password}}); err != nil {
			if i > 0 {
				err = fmt.Errorf("the password is set for %s, and not for %s: %w", strings.Join(mechanisms[:i], ", "), name, err)
			}
			return err
		}
	}
	return nil
}

// DeleteUser takes a user's credentials for some mechanisms away, all if none is named.
func DeleteUser(ctx context.Context, cl *kgo.Client, user string, mechanisms []string) error {
	if len(mechanisms) == 0 {
		has, err := Users(ctx, cl, user)
		if err != nil {
			return err
		}
		for _, m := range has[0].Mechanisms {
			mechanisms = append(mechanisms, m.Name)
		}
	}
	for _, name := range mechanisms {
		m, err := scramMechanism(name)
		if err != nil {
			return err
		}
		if err := alterUser(ctx, cl, []kadm.DeleteSCRAM{{User: user, Mechanism: m}}, nil); err != nil {
			return err
		}
	}
	return nil
}

func alterUser(ctx context.Context, cl *kgo.Client, deletions []kadm.DeleteSCRAM, upsertions []kadm.UpsertSCRAM) error {
	done, err := kadm.NewClient(cl).AlterUserSCRAMs(ctx, deletions, upsertions)
	if err != nil {
		return err
	}
	for _, u := range done {
		if u.Err != nil {
			return said(u.Err, u.ErrMessage)
		}
	}
	return nil
}

// said is an error with what the broker said of it.
func said(err error, message string) error {
	if message == "" {
		return err
	}
	return fmt.Errorf("%s: %w", message, err)
}
