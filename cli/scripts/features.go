package scripts

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

var featuresScript = script{
	about: "describe a cluster's features and change their levels: describe, upgrade, downgrade, disable, version-mapping, feature-dependencies",
	options: slices.Concat([]option{{name: "bootstrap-server"}, {name: "bootstrap-controller"}, {name: "command-config"}},
		valued("node-id", "metadata", "release-version", "feature"), flags("dry-run", "unsafe")),
	run: features,
}

// metadataFeature is the feature that stands for a release of Kafka.
const metadataFeature = "metadata.version"

// A release has a level of metadata.version; firstRelease is the lowest that Kafka 4.4 knows, and each other one level above the one
// before it.
const firstRelease = 7

var releases = []string{
	"3.3-IV3", "3.4-IV0", "3.5-IV0", "3.5-IV1", "3.5-IV2", "3.6-IV0", "3.6-IV1", "3.6-IV2", "3.7-IV0", "3.7-IV1", "3.7-IV2", "3.7-IV3", "3.7-IV4", "3.8-IV0", "3.9-IV0",
	"4.0-IV0", "4.0-IV1", "4.0-IV2", "4.0-IV3", "4.1-IV0", "4.1-IV1", "4.2-IV0", "4.2-IV1", "4.3-IV0", "4.4-IV0", "4.4-IV1", "4.4-IV2", "4.5-IV0",
}

// newestStable is the newest level that is final; those above have no short names.
const newestStable = 33

// otherFeatures are those besides metadata.version, in Kafka's order: for each level from 1 on the release that has it by default, and
// the highest level.
var otherFeatures = []struct {
	name  string
	since []int16 // by level from 1 on; 0 for a level that no release has by default
}{
	{"kraft.version", []int16{21}},
	{"transaction.version", []int16{0, 24}},
	{"group.version", []int16{22}},
	{"eligible.leader.replicas.version", []int16{26}},
	{"share.version", []int16{28, 31}},
	{"streams.version", []int16{29}},
}

// dependencies are the levels of metadata.version that others need.
var dependencies = map[string]int16{"eligible.leader.replicas.version=1": 23}

func features(c *call) error {
	commands := map[string]func(*call) error{
		"describe": describeFeatures, "upgrade": upgradeFeatures, "downgrade": downgradeFeatures, "disable": disableFeatures,
		"version-mapping": versionMapping, "feature-dependencies": featureDependencies,
	}
	if len(c.rest) != 1 || commands[c.rest[0]] == nil {
		return errors.New("kafka-features takes one of " + strings.Join(slices.Sorted(maps.Keys(commands)), ", "))
	}
	return commands[c.rest[0]](c)
}

// releaseLevel is the level of a release by its name, long or short.
func releaseLevel(name string) (int16, error) {
	for level := int16(firstRelease + len(releases) - 1); level >= firstRelease; level-- {
		long := releases[level-firstRelease]
		if short, _, _ := strings.Cut(long, "-"); long == name || short == name && level <= newestStable {
			return level, nil
		}
	}
	return 0, fmt.Errorf("Unknown metadata.version '%s'. Supported metadata.version are: %s", name, strings.Join(releases, ", "))
}

func releaseName(level int16) string {
	if i := int(level) - firstRelease; i >= 0 && i < len(releases) {
		return releases[i]
	}
	return strconv.Itoa(int(level))
}

// levelsOf are the levels of all other features that a release has by default.
func levelsOf(release int16) map[string]int16 {
	out := map[string]int16{}
	for _, f := range otherFeatures {
		out[f.name] = 0
		for i, since := range f.since {
			if since != 0 && since <= release {
				out[f.name] = int16(i + 1)
			}
		}
	}
	return out
}

func describeFeatures(c *call) error {
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	ask := kadm.NewClient(cl)
	all, err := ask.ApiVersions(c.ctx)
	if err != nil {
		return err
	}
	for _, broker := range all.Sorted() {
		if node := c.get("node-id", ""); node != "" && node != strconv.Itoa(int(broker.NodeID)) {
			continue
		}
		if broker.Err != nil {
			return broker.Err
		}
		return c.printFeatures(cl, broker.NodeID)
	}
	return fmt.Errorf("there is no node %s", c.get("node-id", ""))
}

func (c *call) printFeatures(cl *kgo.Client, broker int32) error {
	req := kmsg.NewPtrApiVersionsRequest()
	req.ClientSoftwareName, req.ClientSoftwareVersion = "kraft", "1"
	r, err := cl.Broker(int(broker)).RetriableRequest(c.ctx, req)
	if err != nil {
		return err
	}
	resp := r.(*kmsg.ApiVersionsResponse)
	levels := map[string]int16{}
	for _, f := range resp.FinalizedFeatures {
		levels[f.Name] = f.MaxVersionLevel
	}
	slices.SortFunc(resp.SupportedFeatures, func(a, b kmsg.ApiVersionsResponseSupportedFeature) int { return strings.Compare(a.Name, b.Name) })
	for _, f := range resp.SupportedFeatures {
		level := func(n int16) string {
			if f.Name == metadataFeature {
				return releaseName(n)
			}
			return strconv.Itoa(int(n))
		}
		fmt.Fprintf(c.out, "Feature: %-42sSupportedMinVersion: %-17sSupportedMaxVersion: %-17sFinalizedVersionLevel: %-17sEpoch: %d\n",
			f.Name, level(f.MinVersion), level(f.MaxVersion), level(levels[f.Name]), resp.FinalizedFeaturesEpoch)
	}
	return nil
}

// changes are what --feature, --metadata and --release-version ask for; zeros of a release are left out unless they are wanted.
func (c *call) changes(zeros bool) (map[string]int16, error) {
	out := map[string]int16{}
	for _, text := range c.all("feature") {
		name, number, ok := strings.Cut(text, "=")
		if !ok {
			return nil, fmt.Errorf("Can't parse feature=level string %s: equals sign not found.", text)
		}
		level, err := strconv.ParseInt(strings.TrimSpace(number), 10, 16)
		if err != nil {
			return nil, fmt.Errorf("Can't parse feature=level string %s: unable to parse %s as a short.", text, number)
		}
		if _, again := out[name]; again {
			return nil, fmt.Errorf("Feature %s was specified more than once.", name)
		}
		out[name] = int16(level)
	}
	if c.has("release-version") && (len(out) > 0 || c.has("metadata")) {
		return nil, errors.New("Can not specify `release-version` with other feature flags.")
	}
	if c.has("metadata") {
		fmt.Fprintln(c.out, " `metadata` flag is deprecated and may be removed in a future release.")
	}
	if name := c.get("metadata", c.get("release-version", "")); name != "" {
		level, err := releaseLevel(name)
		if err != nil {
			return nil, err
		}
		if c.has("release-version") {
			for name, n := range levelsOf(level) {
				if n > 0 || zeros {
					out[name] = n
				}
			}
		}
		out[metadataFeature] = level
	}
	return out, nil
}

// Kinds of updates in UpdateFeatures.
const (
	upgrade         = 1
	safeDowngrade   = 2
	unsafeDowngrade = 3
)

func upgradeFeatures(c *call) error {
	levels, err := c.changes(false)
	if err != nil {
		return err
	}
	return c.updateFeatures("upgrade", "upgraded", levels, upgrade)
}

func downgradeFeatures(c *call) error {
	levels, err := c.changes(true)
	if err != nil {
		return err
	}
	return c.updateFeatures("downgrade", "downgraded", levels, c.downgradeKind())
}

func (c *call) downgradeKind() int8 {
	if c.has("unsafe") {
		return unsafeDowngrade
	}
	return safeDowngrade
}

func disableFeatures(c *call) error {
	levels := map[string]int16{}
	for _, name := range c.all("feature") {
		levels[name] = 0
	}
	return c.updateFeatures("disable", "disabled", levels, c.downgradeKind())
}

func (c *call) updateFeatures(do, done string, levels map[string]int16, kind int8) error {
	if len(levels) == 0 {
		return fmt.Errorf("You must specify at least one feature to %s", do)
	}
	cl, err := c.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	req := kmsg.NewPtrUpdateFeaturesRequest()
	req.ValidateOnly = c.has("dry-run")
	names := slices.Sorted(maps.Keys(levels))
	for _, name := range names {
		f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
		f.Feature, f.MaxVersionLevel, f.UpgradeType = name, levels[name], kind
		f.AllowDowngrade = kind != upgrade
		req.FeatureUpdates = append(req.FeatureUpdates, f)
	}
	resp, err := req.RequestWith(c.ctx, cl)
	if err != nil {
		return err
	}
	failure := answer(resp.ErrorCode, resp.ErrorMessage)
	could, was := "Could not", "was"
	if req.ValidateOnly {
		could, was = "Can not", "can be"
	}
	for _, name := range names {
		to := fmt.Sprintf(" to %d", levels[name])
		if do == "disable" {
			to = ""
		}
		if failure != nil {
			fmt.Fprintf(c.out, "%s %s %s%s. %v\n", could, do, name, to, failure)
		} else {
			fmt.Fprintf(c.out, "%s %s %s%s.\n", name, was, done, to)
		}
	}
	if failure != nil {
		fmt.Fprintf(c.errOut, "%d out of %d operation(s) failed.\n", len(names), len(names))
		return statusError(1)
	}
	return nil
}

func versionMapping(c *call) error {
	name := c.get("release-version", releaseName(newestStable))
	level, err := releaseLevel(name)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.out, "%s=%d (%s)\n", metadataFeature, level, name)
	levels := levelsOf(level)
	for _, f := range otherFeatures {
		fmt.Fprintf(c.out, "%s=%d\n", f.name, levels[f.name])
	}
	return nil
}

func featureDependencies(c *call) error {
	if !c.has("feature") {
		return errors.New("kafka-features feature-dependencies: error: argument --feature is required")
	}
	levels, err := c.changes(false)
	if err != nil {
		return err
	}
	for _, text := range c.all("feature") {
		name, _, _ := strings.Cut(text, "=")
		level, highest, lowest := levels[name], int16(-1), int16(0)
		for _, f := range otherFeatures {
			if f.name == name {
				highest = int16(len(f.since))
			}
		}
		suffix := ""
		if name == metadataFeature {
			lowest, highest = firstRelease, int16(firstRelease+len(releases)-1)
			suffix = fmt.Sprintf(" (%s)", releaseName(level))
		}
		switch needs, has := dependencies[fmt.Sprintf("%s=%d", name, level)]; {
		case highest < 0:
			return fmt.Errorf("Unknown feature: %s", name)
		case level < lowest || level > highest:
			return fmt.Errorf("No feature:%s with feature level %d", name, level)
		case has:
			fmt.Fprintf(c.out, "%s=%d requires:\n    %s=%d (%s)\n", name, level, metadataFeature, needs, releaseName(needs))
		default:
			fmt.Fprintf(c.out, "%s=%d%s has no dependencies.\n", name, level, suffix)
		}
	}
	return nil
}
