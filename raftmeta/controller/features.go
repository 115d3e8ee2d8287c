package controller

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"kraft/raftmeta/image"
)

// Features are the cluster features that this version knows, with the range of levels it supports. A
// new cluster finalizes the highest of each. Features whose APIs are not served are not listed.
var Features = map[string][2]int16{
	"metadata.version": {7, 30}, // 30 is Kafka 4.3's, the newest that widespread tools can name
	TransactionVersion: {0, 2},
}

// TransactionVersion is the feature by which clients choose how they make transactions (KIP-890).
const TransactionVersion = "transaction.version"

// FeatureChange is the level that a feature is to have.
type FeatureChange struct {
	Name      string
	Level     int16
	Downgrade bool // it may be lower than now
}

// UpdateFeatures decides on other levels of features (KIP-584), all or none, as Kafka's FeatureControlManager. supported are the
// levels that the controller itself supports.
func UpdateFeatures(m *image.Image, node int32, supported map[string][2]int16, changes []FeatureChange) ([]*image.Record, error) {
	var records []*image.Record
	seen := map[string]bool{}
	for _, c := range changes {
		if seen[c.Name] {
			return nil, fmt.Errorf("Can not update the feature %s twice in one request.: %w", c.Name, kerr.InvalidRequest)
		}
		seen[c.Name] = true
		if reason := refuseLevel(m, node, supported, c); reason != "" {
			return nil, fmt.Errorf("Invalid update version %d for feature %s. %s: %w", c.Level, c.Name, reason, kerr.InvalidUpdateVersion)
		}
		if m.Features[c.Name] != c.Level {
			records = append(records, &image.Record{Kind: &image.Record_Feature{Feature: &image.FeatureRecord{Name: c.Name, Level: int32(c.Level), Epoch: m.FeaturesEpoch + 1}}})
		}
	}
	return records, nil
}

// refuseLevel says why a feature cannot have a level, "" if it can.
func refuseLevel(m *image.Image, node int32, supported map[string][2]int16, c FeatureChange) string {
	if c.Level < 0 {
		return "A feature version cannot be less than 0."
	}
	supports := func(who string, has [2]int16, knows bool) string {
		switch {
		case !knows && c.Level > 0:
			return who + " does not support this feature."
		case knows && (c.Level < has[0] || c.Level > has[1]):
			return fmt.Sprintf("%s only supports versions %d-%d", who, has[0], has[1])
		}
		return ""
	}
	has, knows := supported[c.Name]
	if !knows && c.Level == 0 {
		return fmt.Sprintf("Feature %s not found.", c.Name)
	}
	if !knows {
		return fmt.Sprintf("Local controller %d does not support this feature.", node)
	}
	if reason := supports(fmt.Sprintf("Local controller %d", node), has, true); reason != "" {
		return reason
	}
	reason := ""
	m.Brokers(func(b *image.Broker) {
		if has, knows := b.Features[c.Name]; reason == "" {
			reason = supports(fmt.Sprintf("Broker %d", b.ID), has, knows)
		}
	})
	if reason == "" && c.Level < m.Features[c.Name] && !c.Downgrade {
		return "Can't downgrade the version of this feature without setting the upgrade type to either safe or unsafe downgrade."
	}
	return reason
}
