package scripts

import (
	"fmt"
	"slices"
	"strings"
)

// option is one of a script's. Kafka's scripts take options anywhere, --name value, --name=value, and any beginning of a name
// that fits no other.
type option struct {
	name    string
	flag    bool     // it takes no value
	maybe   bool     // its value may be left out
	aliases []string // older names
}

// options are what was given: the values of each, "" for a flag.
type options struct {
	values map[string][]string
	rest   []string // what is no option
}

// parse reads arguments. Its errors are for people.
func parse(known []option, args []string) (*options, error) {
	o := &options{values: map[string][]string{}}
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			o.rest = append(o.rest, args...)
			return o, nil
		}
		name, value, inline := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if !strings.HasPrefix(arg, "-") || name == "" {
			o.rest = append(o.rest, arg)
			continue
		}
		if name == "zookeeper" && !slices.ContainsFunc(known, func(k option) bool { return k.name == name }) {
			return nil, fmt.Errorf("there is no ZooKeeper, neither in kraft nor in Kafka 4: use --bootstrap-server HOST:PORT in place of --zookeeper")
		}
		found, err := find(known, name)
		if err != nil {
			return nil, err
		}
		switch {
		case found.flag && inline:
			return nil, fmt.Errorf("option %s does not allow an argument", found.name)
		case found.flag:
		case found.maybe && !inline:
			if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
				value, args = args[0], args[1:]
			}
		case !inline:
			if len(args) == 0 {
				return nil, fmt.Errorf("option %s requires an argument", found.name)
			}
			value, args = args[0], args[1:]
		}
		o.values[found.name] = append(o.values[found.name], value)
	}
	return o, nil
}

// find finds an option by its name, or by the beginning of one.
func find(known []option, name string) (option, error) {
	var begins []option
	for _, k := range known {
		for _, n := range append([]string{k.name}, k.aliases...) {
			if n == name {
				return k, nil
			}
			if strings.HasPrefix(n, name) && !slices.ContainsFunc(begins, func(b option) bool { return b.name == k.name }) {
				begins = append(begins, k)
			}
		}
	}
	switch len(begins) {
	case 0:
		return option{}, fmt.Errorf("%s is not a recognized option", name)
	case 1:
		return begins[0], nil
	}
	var names []string
	for _, b := range begins {
		names = append(names, b.name)
	}
	return option{}, fmt.Errorf("%s is not a recognized option: it may be %s", name, strings.Join(names, " or "))
}

// has says that an option was given.
func (o *options) has(name string) bool { return o.values[name] != nil }

// get is an option's last value, or what stands for it.
func (o *options) get(name, otherwise string) string {
	if v := o.values[name]; v != nil {
		return v[len(v)-1]
	}
	return otherwise
}

// all are the values of an option that may be repeated.
func (o *options) all(name string) []string { return o.values[name] }

// properties reads KEY=VALUE of an option that may be repeated.
func (o *options) properties(name string) (map[string]string, error) {
	out := map[string]string{}
	for _, v := range o.all(name) {
		key, value, ok := strings.Cut(v, "=")
		if !ok {
			return nil, fmt.Errorf("invalid option: --%s takes KEY=VALUE, got %s", name, v)
		}
		out[key] = value
	}
	return out, nil
}

// one is which of several options was given: exactly one has to be.
func (o *options) one(names ...string) (string, error) {
	given := ""
	for _, n := range names {
		if !o.has(n) {
			continue
		}
		if given != "" {
			return "", fmt.Errorf("options --%s and --%s do not go together", given, n)
		}
		given = n
	}
	if given == "" {
		return "", fmt.Errorf("command must include exactly one action: --%s", strings.Join(names, ", --"))
	}
	return given, nil
}

func flags(names ...string) (out []option) {
	for _, n := range names {
		out = append(out, option{name: n, flag: true})
	}
	return out
}

func valued(names ...string) (out []option) {
	for _, n := range names {
		out = append(out, option{name: n})
	}
	return out
}
