package check

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
)

const chartDir = "../helm/kraft"

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// render is helm template: the documents of all templates.
func render(c *chart.Chart, values map[string]any) ([]string, error) {
	capabilities := chartutil.DefaultCapabilities.Copy()
	all, err := chartutil.ToRenderValues(c, values, chartutil.ReleaseOptions{Name: "kafka", Namespace: "prod", IsInstall: true}, capabilities)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(c, all)
	if err != nil {
		return nil, err
	}
	var out []string
	for name, text := range files {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		for _, document := range strings.Split(text, "\n---") {
			if strings.TrimSpace(strings.TrimPrefix(strings.TrimSpace(document), "---")) != "" {
				out = append(out, document)
			}
		}
	}
	slices.Sort(out)
	return out, nil
}

// decode reads documents as Kubernetes does, and takes no field that it does not know, and none twice. A ServiceMonitor is another's.
func decode(t *testing.T, documents []string) (out []runtime.Object) {
	t.Helper()
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	for _, d := range documents {
		if strings.Contains(d, "kind: ServiceMonitor") {
			continue
		}
		o, _, err := strict.Decode([]byte(d), nil, nil)
		if err != nil {
			t.Fatalf("%v in\n%s", err, d)
		}
		out = append(out, o)
	}
	return out
}

func find[T any](t *testing.T, objects []runtime.Object) (out []T) {
	t.Helper()
	for _, o := range objects {
		if found, ok := o.(T); ok {
			out = append(out, found)
		}
	}
	return out
}

// TestChart: what the chart makes is what Kubernetes takes, with all that a quorum needs there.
func TestChart(t *testing.T) {
	c := load(t)
	if r := action.NewLint().Run([]string{chartDir}, nil); len(r.Errors) > 0 {
		t.Errorf("helm lint: %v", r.Errors)
	}
	for name, values := range map[string]map[string]any{
		"as it is": {},
		"external, node ports": {"external": map[string]any{"enabled": true, "type": "NodePort", "firstNodePort": 32000, "annotations": map[string]any{"a": "b"}},
			"antiAffinity": "hard", "resources": map[string]any{}, "metrics": map[string]any{"serviceMonitor": map[string]any{"enabled": true, "labels": map[string]any{"release": "p"}}}},
		"one": {"replicas": 1, "quorum": map[string]any{"voters": 1}, "antiAffinity": "none", "storage": map[string]any{"storageClassName": "fast"},
			"tolerations": []any{map[string]any{"key": "k", "operator": "Exists"}}, "nodeSelector": map[string]any{"a": "b"}, "podLabels": map[string]any{"x": "y"}, "podAnnotations": map[string]any{"x": "y"},
			"imagePullSecrets": []any{map[string]any{"name": "s"}}, "priorityClassName": "high"},
		"seven of which five vote": {"replicas": 7, "quorum": map[string]any{"voters": 5}},
	} {
		t.Run(name, func(t *testing.T) {
			documents, err := render(c, values)
			if err != nil {
				t.Fatal(err)
			}
			objects := decode(t, documents)
			sets, services, budgets := find[*apps.StatefulSet](t, objects), find[*core.Service](t, objects), find[*policy.PodDisruptionBudget](t, objects)
			if len(sets) != 1 || len(services) < 2 || len(budgets) != 1 {
				t.Fatalf("%d stateful sets, %d services, %d budgets", len(sets), len(services), len(budgets))
			}
			set := sets[0]
			if set.Spec.PodManagementPolicy != apps.ParallelPodManagement || budgets[0].Spec.MaxUnavailable.IntVal != 1 {
				t.Errorf("started %s, at most %v away", set.Spec.PodManagementPolicy, budgets[0].Spec.MaxUnavailable)
			}
			headless := services[slices.IndexFunc(services, func(s *core.Service) bool { return s.Name == set.Spec.ServiceName })]
			if headless.Spec.ClusterIP != core.ClusterIPNone || !headless.Spec.PublishNotReadyAddresses {
				t.Errorf("the set's service is %+v", headless.Spec)
			}
			container := set.Spec.Template.Spec.Containers[0]
			if container.LivenessProbe.HTTPGet.Path != "/healthz" || container.ReadinessProbe.HTTPGet.Path != "/readyz" || container.Lifecycle.PreStop.Sleep == nil {
				t.Errorf("probes %+v", container)
			}
			for key, value := range set.Spec.Selector.MatchLabels {
				if set.Spec.Template.Labels[key] != value || headless.Spec.Selector[key] != value || budgets[0].Spec.Selector.MatchLabels[key] != value {
					t.Errorf("label %s does not select the pods everywhere", key)
				}
			}
			if strings.Contains(strings.Join(container.Args, " "), "%!") || slices.ContainsFunc(container.Args, func(a string) bool { return !strings.HasPrefix(a, "--") }) {
				t.Errorf("arguments %q", container.Args)
			}
		})
	}
	numbers, err := render(c, map[string]any{"config": map[string]any{"log.cleaner.min.cleanable.ratio": 0.25, "log.retention.bytes": float64(10_000_000_000), "log.cleanup.policy": "compact,delete", "auto.create.topics.enable": false}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"log.cleaner.min.cleanable.ratio=0.25", "log.retention.bytes=10000000000", "log.cleanup.policy=compact,delete", "auto.create.topics.enable=false", "min.insync.replicas=2"} {
		if !strings.Contains(strings.Join(numbers, "\n"), `"--override=`+want+`"`) {
			t.Errorf("no %s", want)
		}
	}
	for want, values := range map[string]map[string]any{
		"quorum.voters is 1, 3 or 5":    {"quorum": map[string]any{"voters": 2}},
		"is at least quorum.voters":     {"replicas": 2},
		"antiAffinity is soft, hard or": {"antiAffinity": "some"},
	} {
		if _, err := render(c, values); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, wanted %s", values, err, want)
		}
	}
}

// TestPodsFormACluster runs the pods' command lines as processes, with local addresses in the place of the pods': three vote, the
// fourth joins them.
func TestPodsFormACluster(t *testing.T) {
	documents, err := render(load(t), map[string]any{"replicas": 4, "config": map[string]any{"num.partitions": 4, "log.retention.bytes": 10_000_000_000}})
	if err != nil {
		t.Fatal(err)
	}
	args := find[*apps.StatefulSet](t, decode(t, documents))[0].Spec.Template.Spec.Containers[0].Args
	dir := t.TempDir()
	bin := build(t)
	const pods = 4
	var client, controller, admin [pods]int
	for i := range pods {
		client[i], controller[i], admin[i] = free(t), free(t), free(t)
	}
	for i := range pods {
		host := func(j int) string { return fmt.Sprintf("kafka-%d.kafka-headless.prod.svc.cluster.local", j) }
		var words []string
		for _, a := range args {
			a = strings.ReplaceAll(a, "$(POD_INDEX)", fmt.Sprint(i))
			for j := range pods {
				a = strings.ReplaceAll(a, fmt.Sprintf("%s:9093", host(j)), fmt.Sprintf("127.0.0.1:%d", controller[j]))
			}
			a = strings.ReplaceAll(a, fmt.Sprintf("%s:9092", host(i)), fmt.Sprintf("127.0.0.1:%d", client[i]))
			a = strings.ReplaceAll(a, "PLAINTEXT://:9092", fmt.Sprintf("PLAINTEXT://127.0.0.1:%d", client[i]))
			a = strings.ReplaceAll(a, "--admin=:9644", fmt.Sprintf("--admin=127.0.0.1:%d", admin[i]))
			a = strings.ReplaceAll(a, "--data=/data", "--data="+filepath.Join(dir, fmt.Sprint(i)))
			words = append(words, a)
		}
		if i == pods-1 { // not a voter: it would listen for the quorum at the default port
			words = append(words, "--override=controller.listener.names=CONTROLLER")
			for k, w := range words {
				if strings.HasPrefix(w, "--listeners=") {
					words[k] = w + fmt.Sprintf(",CONTROLLER://127.0.0.1:%d", controller[i])
				}
			}
		}
		start(t, bin, nil, words...)
	}
	first := fmt.Sprintf("127.0.0.1:%d", client[0])
	await(t, bin, first, "brokers 4")
	status, err := exec.Command(bin, "quorum", "status", "-b", first).CombinedOutput()
	if err != nil || strings.Count(string(status), "voter")+strings.Count(string(status), "leader  ") != 3 || strings.Count(string(status), "learner") != 1 {
		t.Errorf("%v: %s", err, status)
	}
	if out, err := exec.Command(bin, "topic", "create", "orders", "-b", fmt.Sprintf("127.0.0.1:%d", client[3])).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}
