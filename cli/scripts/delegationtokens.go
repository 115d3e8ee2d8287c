package scripts

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var delegationTokensScript = script{
	about: "make, renew, end and show delegation tokens",
	options: slices.Concat([]option{{name: "bootstrap-server"}, {name: "command-config"}}, flags("create", "renew", "expire", "describe"),
		valued("max-life-time-period", "renew-time-period", "expiry-time-period", "hmac", "owner-principal", "renewer-principal")),
	run: delegationTokens,
}

func delegationTokens(c *call) error {
	commands := map[string]func(*call, *kgo.Client) error{"create": createToken, "renew": renewToken, "expire": expireToken, "describe": describeTokens}
	action, chosen := "", 0
	for name := range commands {
		if c.has(name) {
			action = name
			chosen++
		}
	}
	if chosen != 1 {
		return errors.New("Command must include exactly one action: --create, --renew, --expire or --describe")
	}
	for _, name := range append([]string{"command-config"}, map[string][]string{"create": {"max-life-time-period"}, "renew": {"hmac", "renew-time-period"}, "expire": {"hmac", "expiry-time-period"}}[action]...) {
		if !c.has(name) {
			return fmt.Errorf("Missing required argument %q", "["+name+"]")
		}
	}
	return c.adminWith(func(cl *kgo.Client, _ *kadm.Client) error { return commands[action](c, cl) })
}

// javaList is a list as Java prints it.
func javaList(list []string) string { return "[" + strings.Join(list, ", ") + "]" }

// javaMinute is a time in milliseconds since 1970 as Kafka's tool prints it.
func javaMinute(millis int64) string { return time.UnixMilli(millis).Format("2006-01-02T15:04") }

const tokenRow = "\n%-15s %-30s %-15s %-15s %-25s %-15s %-15s %-15s"

func (c *call) tokenHeader() {
	fmt.Fprintf(c.out, tokenRow+"\n", "TOKENID", "HMAC", "OWNER", "REQUESTER", "RENEWERS", "ISSUEDATE", "EXPIRYDATE", "MAXDATE")
}

func (c *call) tokenLine(id string, hmac []byte, owner, requester, renewers string, times ...int64) {
	fields := []any{id, base64.StdEncoding.EncodeToString(hmac), owner, requester, renewers}
	for _, at := range times {
		fields = append(fields, javaMinute(at))
	}
	fmt.Fprintf(c.out, tokenRow+"\n", fields...)
}

func createToken(c *call, cl *kgo.Client) error {
	lifetime, err := c.number("max-life-time-period", 0)
	if err != nil {
		return err
	}
	renewers, err := c.principals("renewer-principal")
	if err != nil {
		return err
	}
	owners, err := c.principals("owner-principal")
	if err != nil {
		return err
	}
	req := kmsg.NewPtrCreateDelegationTokenRequest()
	req.MaxLifetimeMillis = lifetime
	for _, r := range renewers {
		kind, name, _ := strings.Cut(r, ":")
		req.Renewers = append(req.Renewers, kmsg.CreateDelegationTokenRequestRenewer{PrincipalType: kind, PrincipalName: name})
	}
	if len(owners) > 0 {
		kind, name, _ := strings.Cut(owners[0], ":")
		req.OwnerPrincipalType, req.OwnerPrincipalName = &kind, &name
	}
	fmt.Fprintf(c.out, "Calling create token operation with renewers :%s , max-life-time-period :%d\n", javaList(renewers), lifetime)
	r, err := req.RequestWith(c.ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(r.ErrorCode)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Created delegation token with tokenId : %s\n", r.TokenID)
	c.tokenHeader()
	c.tokenLine(r.TokenID, r.HMAC, r.PrincipalType+":"+r.PrincipalName, r.TokenRequesterPrincipalType+":"+r.TokenRequesterPrincipalName, javaList(renewers), r.IssueTimestamp, r.ExpiryTimestamp, r.MaxTimestamp)
	return nil
}

// hmac is the option of that name, as text and as bytes.
func (c *call) hmac() (text string, data []byte, err error) {
	text = c.get("hmac", "")
	if data, err = base64.StdEncoding.DecodeString(text); err != nil {
		data, err = base64.RawStdEncoding.DecodeString(text)
	}
	if err != nil {
		return text, nil, errors.New("--hmac is no HMAC: it is in base64, as --create and --describe print it")
	}
	return text, data, nil
}

func renewToken(c *call, cl *kgo.Client) error {
	return c.changeToken("renew", "renew-time-period", "renew-time-period", func(hmac []byte, period int64) (int16, int64, error) {
		r, err := (&kmsg.RenewDelegationTokenRequest{HMAC: hmac, RenewTimeMillis: period}).RequestWith(c.ctx, cl)
		if err != nil {
			return 0, 0, err
		}
		return r.ErrorCode, r.ExpiryTimestamp, nil
	})
}

func expireToken(c *call, cl *kgo.Client) error {
	return c.changeToken("expire", "expiry-time-period", "expire-time-period", func(hmac []byte, period int64) (int16, int64, error) {
		r, err := (&kmsg.ExpireDelegationTokenRequest{HMAC: hmac, ExpiryPeriodMillis: period}).RequestWith(c.ctx, cl)
		if err != nil {
			return 0, 0, err
		}
		return r.ErrorCode, r.ExpiryTimestamp, nil
	})
}

// changeToken has ask change when a token expires: after the time in option, which Kafka's tool prints under another name.
func (c *call) changeToken(operation, option, printed string, ask func(hmac []byte, period int64) (code int16, expires int64, err error)) error {
	text, hmac, err := c.hmac()
	if err != nil {
		return err
	}
	period, err := c.number(option, 0)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Calling %s token operation with hmac :%s , %s :%d\n", operation, text, printed, period)
	code, expires, err := ask(hmac, period)
	if err == nil {
		err = kerr.ErrorForCode(code)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Completed %s operation. New expiry date : %s\n", operation, javaMinute(expires))
	return nil
}

func describeTokens(c *call, cl *kgo.Client) error {
	owners, err := c.principals("owner-principal")
	if err != nil {
		return err
	}
	if len(owners) == 0 {
		fmt.Fprintln(c.out, "Calling describe token operation for current user.")
	} else {
		fmt.Fprintf(c.out, "Calling describe token operation for owners: %s\n", javaList(owners))
	}
	req := kmsg.NewPtrDescribeDelegationTokenRequest()
	for _, o := range owners { // none of them: all that the caller may see, which Kafka's own tool does not ask for
		kind, name, _ := strings.Cut(o, ":")
		req.Owners = append(req.Owners, kmsg.DescribeDelegationTokenRequestOwner{PrincipalType: kind, PrincipalName: name})
	}
	r, err := req.RequestWith(c.ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(r.ErrorCode)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "Total number of tokens : %d", len(r.TokenDetails))
	c.tokenHeader()
	for _, d := range r.TokenDetails {
		var renewers []string
		for _, n := range d.Renewers {
			renewers = append(renewers, n.PrincipalType+":"+n.PrincipalName)
		}
		c.tokenLine(d.TokenID, d.HMAC, d.PrincipalType+":"+d.PrincipalName, d.TokenRequesterPrincipalType+":"+d.TokenRequesterPrincipalName, javaList(renewers), d.IssueTimestamp, d.ExpiryTimestamp, d.MaxTimestamp)
	}
	return nil
}
