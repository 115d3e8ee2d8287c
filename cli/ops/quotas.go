package ops

import (
	"context"
	"encoding/json"
	"math"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"kraft/raftmeta/image"
	"kraft/wire"
)

// QuotaOf is who a quota is for: a user, a client id, both, or an address. Everybody stands for those who have none of their own, and "" for
// none of the kind.
type QuotaOf struct {
	User    string `json:"user,omitempty"`
	Client  string `json:"client,omitempty"`
	Address string `json:"address,omitempty"`
}

// Everybody is a name in QuotaOf.
const Everybody = "*"

// Quota are the quotas of one QuotaOf, by Kafka's names.
type Quota struct {
	QuotaOf
	Values map[string]float64 `json:"quotas"`
}

// MarshalJSON writes an infinite quota, which is none and which JSON does not have, as null.
func (q Quota) MarshalJSON() ([]byte, error) {
	values := map[string]*float64{}
	for key, v := range q.Values {
		if values[key] = &v; math.IsInf(v, 0) {
			values[key] = nil
		}
	}
	return json.Marshal(struct {
		QuotaOf
		Values map[string]*float64 `json:"quotas"`
	}{q.QuotaOf, values})
}

// Quotas lists all quotas of the cluster.
func Quotas(ctx context.Context, cl *kgo.Client) ([]Quota, error) {
	resp, err := kmsg.NewPtrDescribeClientQuotasRequest().RequestWith(ctx, cl)
	if err == nil {
		err = wire.AnswerError(resp.ErrorCode, resp.ErrorMessage)
	}
	if err != nil {
		return nil, err
	}
	out := []Quota{}
	for _, e := range resp.Entries {
		q := Quota{Values: map[string]float64{}}
		for _, part := range e.Entity {
			name := Everybody
			if part.Name != nil {
				name = *part.Name
			}
			switch part.Type {
			case image.UserEntity:
				q.User = name
			case image.ClientEntity:
				q.Client = name
			case image.AddressEntity:
				q.Address = name
			}
		}
		for _, v := range e.Values {
			q.Values[v.Key] = v.Value
		}
		out = append(out, q)
	}
	return out, nil
}

// SetQuotas sets quotas, and removes others, all by Kafka's names.
func SetQuotas(ctx context.Context, cl *kgo.Client, of QuotaOf, set map[string]float64, remove []string) error {
	entry := kmsg.NewAlterClientQuotasRequestEntry()
	for kind, name := range map[string]string{image.UserEntity: of.User, image.ClientEntity: of.Client, image.AddressEntity: of.Address} {
		switch name {
		case "":
		case Everybody:
			entry.Entity = append(entry.Entity, kmsg.AlterClientQuotasRequestEntryEntity{Type: kind})
		default:
			entry.Entity = append(entry.Entity, kmsg.AlterClientQuotasRequestEntryEntity{Type: kind, Name: &name})
		}
	}
	for key, value := range set {
		entry.Ops = append(entry.Ops, kmsg.AlterClientQuotasRequestEntryOp{Key: key, Value: value})
	}
	for _, key := range remove {
		entry.Ops = append(entry.Ops, kmsg.AlterClientQuotasRequestEntryOp{Key: key, Remove: true})
	}
	req := kmsg.NewPtrAlterClientQuotasRequest()
	req.Entries = append(req.Entries, entry)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return err
	}
	for _, r := range resp.Entries {
		if err := wire.AnswerError(r.ErrorCode, r.ErrorMessage); err != nil {
			return err
		}
	}
	return nil
}
