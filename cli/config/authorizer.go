package config

import (
	"fmt"
	"strings"

	"kraft/raftmeta/authorizer"
)

// authorizers are the classes of Apache Kafka that decide by access control lists as kraft does: that of clusters without ZooKeeper, and the two before it.
var authorizers = []string{
	"org.apache.kafka.metadata.authorizer.StandardAuthorizer",
	"kafka.security.authorizer.AclAuthorizer",
	"kafka.security.auth.SimpleAclAuthorizer",
}

// readAuthorizer reads who may do everything, where there are access control lists.
func (c *Config) readAuthorizer() error {
	class := c.Static["authorizer.class.name"]
	known := false
	for _, a := range authorizers {
		known = known || class == a
	}
	switch {
	case class == "":
		for _, key := range []string{"super.users", "allow.everyone.if.no.acl.found", "authorizer.mode"} {
			if c.Static[key] != "" {
				c.Notes = append(c.Notes, fmt.Sprintf("%s has no effect without authorizer.class.name=%s: everybody may do everything", key, authorizers[0]))
			}
		}
		return nil
	case !known:
		return fmt.Errorf("authorizer.class.name=%s: kraft loads no Java classes: it has Kafka's own authorizer, %s", class, authorizers[0])
	}
	c.Authorizer = &authorizer.Config{SuperUsers: map[string]bool{}, AllowEveryone: c.Settings.AllowEveryone, Audit: c.Static["authorizer.mode"] == authorizer.Audit}
	for _, user := range strings.Split(c.Static["super.users"], ";") {
		user = strings.TrimSpace(user)
		kind, name, ok := strings.Cut(user, ":")
		switch {
		case user == "":
		case !ok || kind == "" || name == "":
			return fmt.Errorf("super.users: %s is no principal: they are written User:NAME, separated by semicolons", user)
		default:
			c.Authorizer.SuperUsers[user] = true
		}
	}
	return nil
}
