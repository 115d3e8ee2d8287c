package check

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
)

// compose reads a file as docker compose does: schema, anchors, defaults.
func compose(t *testing.T, file string) *types.Project {
	t.Helper()
	o, err := cli.NewProjectOptions([]string{file}, cli.WithName("kraft"))
	if err != nil {
		t.Fatal(err)
	}
	p, err := o.LoadProject(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestComposeFiles: both files are what docker compose takes, and name files and volumes that there are.
func TestComposeFiles(t *testing.T) {
	for file, brokers := range map[string]int{"../../compose.yaml": 1, "../compose-three.yaml": 3} {
		p := compose(t, file)
		if len(p.Services) != brokers {
			t.Errorf("%s has %d services", file, len(p.Services))
		}
		for name, s := range p.Services {
			dockerfile := filepath.Join(s.Build.Context, s.Build.Dockerfile)
			if _, err := os.Stat(dockerfile); err != nil {
				t.Errorf("%s of %s is built by %v", name, file, err)
			}
			for _, v := range s.Volumes {
				if _, ok := p.Volumes[v.Source]; !ok {
					t.Errorf("%s of %s has a volume %s", name, file, v.Source)
				}
			}
			if len(s.Ports) != 1 || len(s.Volumes) != 1 {
				t.Errorf("%s of %s: ports %v, volumes %v", name, file, s.Ports, s.Volumes)
			}
		}
	}
}

// TestComposeFormsACluster runs the brokers of the file with three as processes, by their environments, with local addresses in the place
// of the services' names.
func TestComposeFormsACluster(t *testing.T) {
	p := compose(t, "../compose-three.yaml")
	names := p.ServiceNames()
	slices.Sort(names)
	addresses := map[string]string{} // by what the file calls them
	listens := map[string]map[string]string{}
	outside := ""
	for i, name := range names {
		inside, out, controller := free(t), free(t), free(t)
		addresses[name+":29092"], addresses[name+":9090"] = fmt.Sprintf("127.0.0.1:%d", inside), fmt.Sprintf("127.0.0.1:%d", controller)
		addresses[fmt.Sprintf("localhost:%s", p.Services[name].Ports[0].Published)] = fmt.Sprintf("127.0.0.1:%d", out)
		listens[name] = map[string]string{"INSIDE://:29092": fmt.Sprintf("INSIDE://127.0.0.1:%d", inside), "OUTSIDE://:9092": fmt.Sprintf("OUTSIDE://127.0.0.1:%d", out), "CONTROLLER://:9090": fmt.Sprintf("CONTROLLER://127.0.0.1:%d", controller),
			":9644": fmt.Sprintf("127.0.0.1:%d", free(t))}
		if i == 0 {
			outside = fmt.Sprintf("127.0.0.1:%d", out)
		}
	}
	bin := build(t)
	dir := t.TempDir()
	file := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		var env []string
		for key, value := range p.Services[name].Environment {
			for from, to := range addresses {
				*value = strings.ReplaceAll(*value, from, to)
			}
			if key == "KAFKA_LISTENERS" || key == "KAFKA_ADMIN_LISTENER" {
				for from, to := range listens[name] {
					*value = strings.ReplaceAll(*value, from, to)
				}
			}
			env = append(env, key+"="+*value)
		}
		start(t, bin, append(env, "KAFKA_LOG_DIRS="+filepath.Join(dir, name)), "server", file)
	}
	await(t, bin, outside, "brokers 3")
}
