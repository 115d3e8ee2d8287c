package configs

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ClientMetrics are the settings of subscriptions to clients' metrics (KIP-714).
var ClientMetrics = clientMetricsDefinitions()

const clientMetricsTable = `interval.ms | int | 300000 | [100,...,3600000]
match | list | ""
metrics | list | ""`

func clientMetricsDefinitions() map[string]*Definition {
	defs := parseTable(clientMetricsTable)
	defs["metrics"].distinct = true
	return defs
}

// What subscriptions may match clients by.
const (
	ClientInstanceID      = "client_instance_id"
	ClientID              = "client_id"
	ClientSoftwareName    = "client_software_name"
	ClientSoftwareVersion = "client_software_version"
	ClientSourceAddress   = "client_source_address"
	ClientSourcePort      = "client_source_port"
)

var clientSelectors = []string{ClientInstanceID, ClientID, ClientSoftwareName, ClientSoftwareVersion, ClientSourceAddress, ClientSourcePort}

// ParseMatch reads the match setting, selector=pattern with commas. A pattern is for the whole of what it is held against. Its
// errors are Kafka's words (ClientMetricsConfigs).
func ParseMatch(value string) (map[string]*regexp.Regexp, error) {
	out := map[string]*regexp.Regexp{}
	for _, text := range SplitList(value) {
		selector, pattern, ok := strings.Cut(text, "=")
		selector = strings.TrimSpace(selector)
		if !ok || strings.Contains(pattern, "=") || !slices.Contains(clientSelectors, selector) {
			return nil, fmt.Errorf("Illegal client matching pattern: %s", text)
		}
		re, err := regexp.Compile("^(?:" + strings.TrimSpace(pattern) + ")$")
		if err != nil {
			return nil, fmt.Errorf("Illegal client matching pattern: %s", text)
		}
		out[selector] = re
	}
	return out, nil
}
