package workload

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"
)

// Users of a cluster with logins, whose passwords are their names. The client may do everything by rules, the trespasser nothing, and the others are super users.
const (
	AdminUser  = "admin"
	BrokerUser = "broker"
	ClientUser = "client"
	Trespasser = "mallory"
)

// LoginAs has a client log in as a user.
func LoginAs(user string) kgo.Opt {
	return kgo.SASL(scram.Auth{User: user, Pass: user}.AsSha256Mechanism())
}

// Secure makes the rules, and returns when all brokers, of ids 1 to n, have them. Everybody is allowed everything, and the trespasser is denied it.
func (w *Workload) Secure(ctx context.Context, n int32) error {
	cl, err := w.clientAs(250, AdminUser, kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrCreateACLsRequest()
	for who, permission := range map[string]kmsg.ACLPermissionType{"User:*": kmsg.ACLPermissionTypeAllow, "User:" + Trespasser: kmsg.ACLPermissionTypeDeny} {
		for resource, name := range map[kmsg.ACLResourceType]string{kmsg.ACLResourceTypeTopic: "*", kmsg.ACLResourceTypeGroup: "*", kmsg.ACLResourceTypeTransactionalId: "*", kmsg.ACLResourceTypeCluster: "kafka-cluster"} {
			req.Creations = append(req.Creations, kmsg.CreateACLsRequestCreation{ResourceType: resource, ResourceName: name, ResourcePatternType: kmsg.ACLResourcePatternTypeLiteral, Principal: who, Host: "*", Operation: kmsg.ACLOperationAll, PermissionType: permission})
		}
	}
	ask := func() error {
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return err
		}
		for _, r := range resp.Results {
			if r.ErrorCode != 0 {
				return kerr.ErrorForCode(r.ErrorCode)
			}
		}
		for id := int32(1); id <= n; id++ {
			describe := kmsg.NewPtrDescribeACLsRequest()
			describe.ResourceType, describe.ResourcePatternType, describe.Operation, describe.PermissionType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny, kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
			answer, err := describe.RequestWith(ctx, cl.Broker(int(id)))
			if err != nil {
				return err
			}
			rules := 0
			for _, r := range answer.Resources {
				rules += len(r.ACLs)
			}
			if rules != len(req.Creations) {
				return fmt.Errorf("broker %d has %d rules", id, rules)
			}
		}
		return nil
	}
	for {
		if err = ask(); err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Trespass has somebody try what he has no right to, until the workload stops. Nothing of it may succeed, also while brokers start and stop.
func (w *Workload) Trespass(i int, rng *rand.Rand) error {
	cl, err := w.clientAs(i, Trespasser, kgo.RequestRetries(0))
	if err != nil {
		return err
	}
	defer cl.Close()
	who := fmt.Sprintf("trespasser %d", i)
	for n := 0; w.Context.Err() == nil; n++ {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		got, err := w.trespass(ctx, cl, rng)
		cancel()
		if got != "" {
			w.History.Wrong("a right that nobody gave", "%s: %s", who, got)
		}
		w.History.Note(who, fmt.Sprintf("try %d: %v", n, err))
		w.pause(300*time.Millisecond, rng)
	}
	return nil
}

// trespass tries one thing, and says what it got; "" for nothing.
func (w *Workload) trespass(ctx context.Context, cl *kgo.Client, rng *rand.Rand) (got string, err error) {
	switch p := w.Parts[rng.IntN(len(w.Parts))]; rng.IntN(4) {
	case 0:
		req := kmsg.NewPtrMetadataRequest()
		resp, err := req.RequestWith(ctx, cl)
		if err == nil && len(resp.Topics) > 0 {
			return fmt.Sprintf("sees %d topics", len(resp.Topics)), nil
		}
		return "", err
	case 1:
		req := kmsg.NewPtrCreateTopicsRequest()
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = "stolen", 1, 1
		req.Topics = append(req.Topics, t)
		resp, err := req.RequestWith(ctx, cl)
		if err == nil && resp.Topics[0].ErrorCode == 0 {
			return "makes a topic", nil
		}
		return "", err
	case 2:
		req := kmsg.NewPtrListGroupsRequest()
		resp, err := req.RequestWith(ctx, cl)
		if err == nil && len(resp.Groups) > 0 {
			return fmt.Sprintf("sees %d groups", len(resp.Groups)), nil
		}
		return "", err
	default:
		req := kmsg.NewPtrListOffsetsRequest()
		t := kmsg.NewListOffsetsRequestTopic()
		t.Topic = p.Topic
		q := kmsg.NewListOffsetsRequestTopicPartition()
		q.Partition, q.Timestamp = p.N, -1
		t.Partitions = append(t.Partitions, q)
		req.Topics = append(req.Topics, t)
		resp, err := req.RequestWith(ctx, cl.Broker(1+rng.IntN(len(w.Seeds))))
		if err == nil && len(resp.Topics) == 1 && resp.Topics[0].Partitions[0].ErrorCode == 0 {
			return fmt.Sprintf("learns the end of %v", p), nil
		}
		return "", err
	}
}
