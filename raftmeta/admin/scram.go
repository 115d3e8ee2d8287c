package admin

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/controller"
	"kraft/raftmeta/image"
	"kraft/wire"
	"kraft/wire/acl"
)

// describeUserScramCredentials answers DescribeUserScramCredentials (KIP-554), in the order of the request, or of names where it asks for all.
func (a *Admin) describeUserScramCredentials(ctx *wire.Request, req *kmsg.DescribeUserSCRAMCredentialsRequest) (*kmsg.DescribeUserSCRAMCredentialsResponse, error) {
	resp := kmsg.NewPtrDescribeUserSCRAMCredentialsResponse()
	resp.ErrorMessage = new(string)
	if err := ctx.MayCluster(acl.Describe); err != nil {
		resp.ErrorCode, resp.ErrorMessage = wire.ErrorCode(err), wire.ErrorMessage(err)
		for range req.Users {
			resp.Results = append(resp.Results, kmsg.DescribeUserSCRAMCredentialsResponseResult{ErrorCode: resp.ErrorCode, ErrorMessage: resp.ErrorMessage})
		}
		return resp, nil
	}
	img := a.meta.Image()
	users := map[string]*kmsg.DescribeUserSCRAMCredentialsResponseResult{}
	var all []string
	img.ScramCredentials("", func(c *image.ScramCredential) bool {
		if users[c.User] == nil {
			r := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
			r.User, r.ErrorMessage = c.User, new(string)
			users[c.User] = &r
			all = append(all, c.User)
		}
		info := kmsg.NewDescribeUserSCRAMCredentialsResponseResultCredentialInfo()
		info.Mechanism, info.Iterations = int8(c.Mechanism), c.Iterations
		users[c.User].CredentialInfos = append(users[c.User].CredentialInfos, info)
		return true
	})
	name := func(u *kmsg.DescribeUserSCRAMCredentialsRequestUser) string { return u.Name }
	twice := wire.Repeated(req.Users, name)
	if len(req.Users) > 0 {
		all = nil
		for _, u := range wire.Distinct(req.Users, name) {
			all = append(all, u.Name)
		}
	}
	for _, user := range all {
		r := users[user]
		var err error
		if twice[user] {
			r, err = nil, fmt.Errorf("Cannot describe SCRAM credentials for the same user twice in a single request: %s: %w", user, kerr.DuplicateResource)
		} else if r == nil {
			err = fmt.Errorf("Attempt to describe a user credential that does not exist: %s: %w", user, kerr.ResourceNotFound)
		}
		if r == nil {
			failed := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
			failed.User, failed.ErrorCode, failed.ErrorMessage = user, wire.ErrorCode(err), wire.ErrorMessage(err)
			r = &failed
		}
		resp.Results = append(resp.Results, *r)
	}
	return resp, nil
}

// alterUserScramCredentials answers AlterUserScramCredentials (KIP-554). A user may be in a request once, with one change.
func (a *Admin) alterUserScramCredentials(ctx *wire.Request, req *kmsg.AlterUserSCRAMCredentialsRequest) (*kmsg.AlterUserSCRAMCredentialsResponse, error) {
	var changes []controller.ScramChange
	for _, d := range req.Deletions {
		changes = append(changes, controller.ScramChange{User: d.Name, Mechanism: d.Mechanism, Remove: true})
	}
	for _, u := range req.Upsertions {
		changes = append(changes, controller.ScramChange{User: u.Name, Mechanism: u.Mechanism, Iterations: u.Iterations, Salt: u.Salt, SaltedPassword: u.SaltedPassword})
	}
	var refused map[string]error
	err := ctx.MayCluster(acl.Alter)
	if err == nil {
		err = a.change(ctx, defaultTimeout, false, func(work *image.Image) ([]*image.Record, error) {
			records, errs := controller.AlterScram(work, changes)
			refused = errs
			return records, nil
		})
	}
	resp := kmsg.NewPtrAlterUserSCRAMCredentialsResponse()
	for _, c := range wire.Distinct(changes, func(c *controller.ScramChange) string { return c.User }) {
		failed := err
		if failed == nil {
			failed = refused[c.User]
		}
		r := kmsg.NewAlterUserSCRAMCredentialsResponseResult()
		r.User, r.ErrorCode, r.ErrorMessage = c.User, wire.ErrorCode(failed), wire.ErrorMessage(failed)
		resp.Results = append(resp.Results, r)
	}
	return resp, nil
}
