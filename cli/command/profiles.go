package command

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/urfave/cli/v2"

	"kraft/cli/config"
	"kraft/cli/credentials"
)

// profiles are the clusters that commands talk to, by names: kept in one file of the user's.
type profiles struct {
	Current  string                       `json:"current,omitempty"`
	Profiles map[string]map[string]string `json:"profiles"` // settings of a client, by Kafka's names
}

// profilesPath is $KRAFT_PROFILES, or in the user's directory for configurations.
func profilesPath() (string, error) {
	if path := os.Getenv("KRAFT_PROFILES"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("profiles have no place: %w (set KRAFT_PROFILES to a file)", err)
	}
	return filepath.Join(dir, "kraft", "profiles.json"), nil
}

func loadProfiles() (*profiles, error) {
	p := &profiles{Profiles: map[string]map[string]string{}}
	path, err := profilesPath()
	if err != nil {
		return p, err
	}
	data, err := config.ReadText(path)
	if errors.Is(err, fs.ErrNotExist) {
		return p, nil
	}
	if err == nil {
		err = json.Unmarshal(data, p)
	}
	if err != nil {
		return p, badUse("profiles cannot be read: %s: %w", path, err)
	}
	return p, nil
}

// save writes the file anew; it holds passwords, and is the user's alone.
func (p *profiles) save() error {
	path, err := profilesPath()
	if err != nil {
		return err
	}
	data, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("profiles cannot be kept: %w", err)
	}
	fresh := path + ".new"
	if err := os.WriteFile(fresh, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("profiles cannot be kept: %w", err)
	}
	return os.Rename(fresh, path)
}

func (p *profiles) find(name string) (map[string]string, error) {
	if settings, ok := p.Profiles[name]; ok {
		return settings, nil
	}
	known := "there are none: kraft profile create makes one"
	if len(p.Profiles) > 0 {
		known = "there are " + strings.Join(slices.Sorted(maps.Keys(p.Profiles)), ", ")
	}
	return nil, badUse("there is no profile %q, %s", name, known)
}

// connection is where and as whom a command connects: by --bootstrap-server, a profile that it or KRAFT_PROFILE names, or the current
// one.
func connection(c *cli.Context) (servers string, opts []kgo.Opt, err error) {
	servers = c.String("bootstrap-server")
	name, named := strings.CutPrefix(servers, "@")
	if !named && c.IsSet("bootstrap-server") {
		return servers, nil, nil
	}
	if !named {
		name = os.Getenv("KRAFT_PROFILE")
	}
	p, err := loadProfiles()
	if err != nil {
		return "", nil, err
	}
	if name == "" {
		name = p.Current
	}
	if name == "" {
		if f := findDev(); f != nil {
			servers = strings.Join(f.Addresses, ",")
			if f.Settings != "" {
				opts, err = loginOf(f.Settings)
			}
		}
		return servers, opts, err
	}
	settings, err := p.find(name)
	if err != nil {
		return "", nil, err
	}
	if opts, err = credentials.Options(settings); err != nil {
		return "", nil, badUse("profile %s: %w", name, err)
	}
	return settings["bootstrap.servers"], opts, nil
}

// bySecureProfile reports whether a command connects by a profile that speaks TLS, or to a kraft dev --secure.
func bySecureProfile(c *cli.Context) bool {
	if c.IsSet("bootstrap-server") && !strings.HasPrefix(c.String("bootstrap-server"), "@") {
		return false
	}
	name := profileInUse(c)
	if name == "" {
		f := findDev()
		return f != nil && f.Settings != ""
	}
	p, err := loadProfiles()
	return err == nil && strings.HasSuffix(strings.ToUpper(p.Profiles[name]["security.protocol"]), "SSL")
}

// loginOf is how a client connects whose settings are in a file.
func loginOf(path string) ([]kgo.Opt, error) {
	settings, err := config.ReadFile(path)
	if err != nil {
		return nil, err
	}
	opts, err := credentials.Options(settings)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return opts, nil
}

// profileInUse is the profile that a command connects by, "" for none.
func profileInUse(c *cli.Context) string {
	at := c.String("bootstrap-server")
	if name, named := strings.CutPrefix(at, "@"); named {
		return name
	}
	if name := os.Getenv("KRAFT_PROFILE"); name != "" {
		return name
	}
	if p, err := loadProfiles(); err == nil {
		return p.Current
	}
	return ""
}

func profileCommand() *cli.Command {
	return &cli.Command{
		Name:  "profile",
		Usage: "keep the addresses of clusters, and how to log in to them",
		Subcommands: []*cli.Command{
			{
				Name: "create", Usage: "keep a cluster under a name, and use it from now on", UsageText: "kraft profile create NAME --bootstrap-server HOST:PORT [-X KEY=VALUE]... [--command-config FILE]",
				Description: `KEY is a setting of Kafka's clients: security.protocol, sasl.mechanism, sasl.jaas.config (or sasl.username, sasl.password),
ssl.truststore.location, ssl.keystore.location (files of PEM) and others. The file of profiles is readable by you alone.

   kraft profile create local --bootstrap-server localhost:9092
   kraft profile create prod -b kafka.example:9093 -X security.protocol=SASL_SSL -X sasl.mechanism=SCRAM-SHA-512 \
     -X sasl.username=me -X sasl.password=secret`,
				OnUsageError: usageError, Action: withArguments(createProfile),
				Flags: []cli.Flag{
					&cli.StringFlag{Name: "bootstrap-server", Aliases: []string{"b"}, Usage: "`HOST:PORT` of a broker, several with commas"},
					&cli.StringSliceFlag{Name: "X", Usage: "a setting of Kafka's clients, `KEY=VALUE`; may be repeated"},
					&cli.StringFlag{Name: "command-config", Usage: "read settings from `FILE`, as Kafka's scripts do"},
				},
			},
			{Name: "list", Usage: "list profiles", UsageText: "kraft profile list", OnUsageError: usageError, Action: listProfiles, Flags: []cli.Flag{jsonFlag()}},
			{Name: "use", Usage: "use a profile where a command names no brokers", UsageText: "kraft profile use NAME", OnUsageError: usageError, Action: withArguments(useProfile),
				Description: "For one command: -b @NAME, or KRAFT_PROFILE=NAME."},
			{Name: "show", Usage: "print a profile's settings, but for passwords", UsageText: "kraft profile show [NAME]", OnUsageError: usageError, Action: showProfile, Flags: []cli.Flag{jsonFlag()}},
			{Name: "delete", Usage: "forget profiles", UsageText: "kraft profile delete NAME...", OnUsageError: usageError, Action: withArguments(deleteProfiles)},
		},
	}
}

var profileName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

func createProfile(c *cli.Context, args []string) error {
	if len(args) != 1 || !profileName.MatchString(args[0]) {
		return badUse("kraft profile create takes one name, of letters, digits, dots, dashes and underscores")
	}
	settings := map[string]string{}
	if file := c.String("command-config"); file != "" {
		all, err := config.ReadFile(file)
		if err != nil {
			return badUseOf(err)
		}
		for _, key := range credentials.Keys {
			if value, ok := all[key]; ok {
				settings[key] = value
			}
		}
	}
	for _, text := range c.StringSlice("X") {
		key, value, ok := strings.Cut(text, "=")
		if !ok || !slices.Contains(credentials.Keys, key) {
			return badUse("-X takes KEY=VALUE, with KEY one of %s, not %q", strings.Join(credentials.Keys, ", "), text)
		}
		settings[key] = value
	}
	if servers := c.String("bootstrap-server"); servers != "" {
		if _, err := addresses(servers); err != nil {
			return err
		}
		settings["bootstrap.servers"] = servers
	}
	if settings["bootstrap.servers"] == "" {
		return badUse("give the profile a broker: --bootstrap-server HOST:PORT")
	}
	if _, err := credentials.Options(settings); err != nil {
		return badUseOf(err)
	}
	p, err := loadProfiles()
	if err != nil {
		return err
	}
	p.Profiles[args[0]], p.Current = settings, args[0]
	if err := p.save(); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "profile %s is kept, and used from now on\n", args[0])
	return nil
}

// profileSummary is a line of profile list.
type profileSummary struct {
	Name     string `json:"name"`
	Current  bool   `json:"current"`
	Servers  string `json:"bootstrap_servers"`
	Protocol string `json:"security_protocol"`
}

type profileList []profileSummary

func (l profileList) text(w io.Writer) error {
	rows := [][]any{{"PROFILE", "BROKERS", "PROTOCOL", ""}}
	for _, p := range l {
		mark := ""
		if p.Current {
			mark = "in use"
		}
		rows = append(rows, []any{p.Name, p.Servers, p.Protocol, mark})
	}
	return table(w, rows)
}

func listProfiles(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	p, err := loadProfiles()
	if err != nil {
		return err
	}
	out := profileList{}
	for _, name := range slices.Sorted(maps.Keys(p.Profiles)) {
		s := p.Profiles[name]
		protocol := s["security.protocol"]
		if protocol == "" {
			protocol = "PLAINTEXT"
		}
		out = append(out, profileSummary{name, name == p.Current, s["bootstrap.servers"], protocol})
	}
	return tell(c, out)
}

func useProfile(c *cli.Context, args []string) error {
	if len(args) != 1 {
		return badUse("kraft profile use takes one name")
	}
	p, err := loadProfiles()
	if err != nil {
		return err
	}
	if _, err := p.find(args[0]); err != nil {
		return err
	}
	p.Current = args[0]
	if err := p.save(); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "profile %s is used from now on\n", args[0])
	return nil
}

// profileSettings are what profile show tells.
type profileSettings map[string]string

func (s profileSettings) text(w io.Writer) error {
	for _, key := range slices.Sorted(maps.Keys(s)) {
		fmt.Fprintf(w, "%s=%s\n", key, s[key])
	}
	return nil
}

func showProfile(c *cli.Context) error {
	args, err := interspersed(c)
	if err != nil {
		return err
	}
	p, err := loadProfiles()
	if err != nil {
		return err
	}
	name := p.Current
	if len(args) > 0 {
		name = args[0]
	}
	if name == "" {
		return badUse("no profile is in use: name one")
	}
	settings, err := p.find(name)
	if err != nil {
		return err
	}
	shown := profileSettings{}
	for key, value := range settings {
		if credentials.IsSecret(key) {
			value = "(hidden)"
		}
		shown[key] = value
	}
	return tell(c, shown)
}

func deleteProfiles(c *cli.Context, names []string) error {
	p, err := loadProfiles()
	if err != nil {
		return err
	}
	for _, name := range names {
		if _, err := p.find(name); err != nil {
			return err
		}
		delete(p.Profiles, name)
		if p.Current == name {
			p.Current = ""
		}
	}
	if err := p.save(); err != nil {
		return err
	}
	fmt.Fprintf(c.App.Writer, "forgot %s\n", strings.Join(names, ", "))
	return nil
}
