package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"kraft/raftmeta/configs"
	"kraft/wire/oauth"
	"kraft/wire/ssl"
)

const oauthBearer = "OAUTHBEARER"

// OAuth is how tokens of OAUTHBEARER are checked.
type OAuth struct {
	oauth.Settings
	Trust *ssl.Settings // of the server with the keys; nil for the system's authorities
}

// validators are the ends of the names of the Java classes whose work kraft does.
var validators = map[string][]string{
	"sasl.server.callback.handler.class":   {"OAuthBearerValidatorCallbackHandler"},
	"sasl.oauthbearer.jwt.validator.class": {"DefaultJwtValidator", "BrokerJwtValidator"},
}

// trustOptions are the options of a JAAS line that say which server with keys is trusted.
var trustOptions = []string{"ssl.truststore.location", "ssl.truststore.password", "ssl.truststore.type", "ssl.truststore.certificates"}

// checksTokens reports whether kraft checks tokens as a Java class does that a setting names.
func checksTokens(setting, class string) bool {
	return slices.Contains(validators[setting], class[strings.LastIndexByte(class, '.')+1:])
}

// readOAuth reads how a listener checks tokens. Settings of the mechanism on the listener (whose names begin with prefix) count before those of the
// listener, and these before those for all. options are those of its JAAS line.
func (c *Config) readOAuth(prefix, listener string, options map[string]string) (*OAuth, error) {
	var failed error
	value := func(name string) string {
		d := configs.Broker[name]
		for _, p := range []string{prefix + ".", listener, ""} {
			text, ok := c.Static[p+name]
			if !ok {
				continue
			}
			c.markUsed(p + name)
			if err := d.Check(text); err != nil && failed == nil {
				failed = fmt.Errorf("%s%s: %w", p, name, err)
			}
			return d.Normal(text)
		}
		if d.Default == nil {
			return ""
		}
		return *d.Default
	}
	for name, classes := range validators {
		if class := value(name); class != "" && !checksTokens(name, class) {
			return nil, fmt.Errorf("%s=%s: kraft loads no Java classes: it checks tokens as %s does", name, class, classes[0])
		}
	}
	const keys, audience, issuer = "sasl.oauthbearer.jwks.endpoint.url", "sasl.oauthbearer.expected.audience", "sasl.oauthbearer.expected.issuer"
	const anyAudience, anyIssuer = "sasl.oauthbearer.allow.unverified.audience", "sasl.oauthbearer.allow.unverified.issuer"
	s := oauth.Settings{
		URL: value(keys), Issuer: value(issuer), Audiences: configs.SplitList(value(audience)),
		ScopeClaim: value("sasl.oauthbearer.scope.claim.name"), SubClaim: value("sasl.oauthbearer.sub.claim.name"),
	}
	atLeast := func(least time.Duration, name string, unit int64) time.Duration {
		n, err := strconv.ParseInt(value(name), 10, 64)
		if failed == nil && (err != nil || n < 0) {
			failed = fmt.Errorf("%s=%s is no time", name, value(name))
		}
		return max(least, configs.Millis(min(max(n, 0), math.MaxInt64/unit)*unit))
	}
	s.Skew = atLeast(0, "sasl.oauthbearer.clock.skew.seconds", 1000)
	s.Refresh = atLeast(time.Second, "sasl.oauthbearer.jwks.endpoint.refresh.ms", 1)
	s.RetryFirst = atLeast(time.Millisecond, "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", 1)
	s.RetryMost = atLeast(time.Millisecond, "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", 1)
	switch {
	case failed != nil:
		return nil, failed
	case s.URL == "":
		return nil, fmt.Errorf("%s needs %s, where the keys are by which tokens are checked", oauthBearer, keys)
	case len(s.Audiences) == 0 && value(anyAudience) != "true":
		return nil, fmt.Errorf("%s needs %s, so that no token for another service lets anybody in; to take tokens for any, set %s=true", oauthBearer, audience, anyAudience)
	case s.Issuer == "" && value(anyIssuer) != "true":
		return nil, fmt.Errorf("%s needs %s, so that no token of another issuer lets anybody in; to take tokens of any, set %s=true", oauthBearer, issuer, anyIssuer)
	}
	for option := range options {
		if strings.HasPrefix(option, "ssl.") && !slices.Contains(trustOptions, option) {
			return nil, fmt.Errorf("%s.sasl.jaas.config: option %s has no effect, those for the keys' server are %s", prefix, option, strings.Join(trustOptions, ", "))
		}
	}
	out := &OAuth{Settings: s}
	trust := ssl.Settings{TrustStore: options["ssl.truststore.location"], TrustStorePassword: options["ssl.truststore.password"], TrustStoreType: options["ssl.truststore.type"], Trusted: options["ssl.truststore.certificates"]}
	if trust.TrustStore != "" || trust.Trusted != "" {
		out.Trust = &trust
	}
	return out, nil
}
