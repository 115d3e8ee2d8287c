package metrics

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
)

// Admin serves a node's admin listener:
//
//	/metrics  kraft's own names, and Kafka's as Strimzi's JMX configuration has them; ?dialect=confluent or exporter for others,
//	          ?partitions=1 for series of each partition, ?dialect=clients for what clients push (KIP-714)
//	/healthz  200 as long as the process is of use: restart it otherwise
//	/readyz   200 while it serves clients
//	/debug/pprof  Go's profiles, to this machine only
//
// Its methods may be called from any goroutine.
type Admin struct {
	server   *http.Server
	observer atomic.Pointer[observer]
	process  []prometheus.Collector
	trouble  atomic.Pointer[string] // why it does not serve clients, nil while it does
	failed   atomic.Bool
	done     chan struct{}
}

// dialects are the families that are told by name of the dialect.
var dialects = map[string][]func(*view, out){
	"":             {(*view).own, (*view).jmx},
	"strimzi":      {(*view).own, (*view).jmx},
	"confluent":    {(*view).confluent},
	"exporter":     {(*view).exporter},
	clientsDialect: {(*view).clients},
}

const clientsDialect = "clients"

// Serve answers on l until Close. The node is not ready until Ready.
func Serve(l net.Listener, log zerolog.Logger) *Admin {
	a := &Admin{done: make(chan struct{}), process: []prometheus.Collector{collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})}}
	a.Unready("it is starting")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metrics", a.metrics)
	mux.HandleFunc("GET /healthz", a.health)
	mux.HandleFunc("GET /readyz", a.ready)
	for path, h := range map[string]http.HandlerFunc{"/debug/pprof/": pprof.Index, "/debug/pprof/cmdline": pprof.Cmdline, "/debug/pprof/profile": pprof.Profile,
		"/debug/pprof/symbol": pprof.Symbol, "/debug/pprof/trace": pprof.Trace} {
		mux.HandleFunc(path, onlyHere(h))
	}
	const patience = 10 * time.Second
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: patience, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	go func() {
		defer close(a.done)
		if err := a.server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			log.Error().Err(err).Msg("metrics and health are not served any more")
		}
	}()
	return a
}

// onlyHere refuses clients on other machines.
func onlyHere(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.RemoteAddr)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			http.Error(w, "profiles are for this machine only", http.StatusForbidden)
			return
		}
		h(w, r)
	}
}

// Ready says that the node serves clients, and what it consists of.
func (a *Admin) Ready(s Sources) {
	a.observer.Store(newObserver(s))
	a.trouble.Store(nil)
}

// Unready says why the node does not serve clients at the moment.
func (a *Admin) Unready(why string) { a.trouble.Store(&why) }

// Fail says that the node cannot go on.
func (a *Admin) Fail() { a.failed.Store(true) }

// Close ends the listener, and waits for who is being answered.
func (a *Admin) Close() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if a.server.Shutdown(ctx) != nil {
		_ = a.server.Close()
	}
	<-a.done
	if o := a.observer.Load(); o != nil {
		o.remote.close()
	}
}

func (a *Admin) health(w http.ResponseWriter, _ *http.Request) {
	if a.failed.Load() {
		http.Error(w, "the node has failed, and is to be started again", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (a *Admin) ready(w http.ResponseWriter, _ *http.Request) {
	if why := a.trouble.Load(); why != nil {
		http.Error(w, "not ready: "+*why, http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (a *Admin) metrics(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	families, ok := dialects[q.Get("dialect")]
	if !ok {
		http.Error(w, "dialect is strimzi, confluent, exporter or clients", http.StatusBadRequest)
		return
	}
	reg := prometheus.NewRegistry()
	if q.Get("dialect") != clientsDialect { // clients may push under any name
		for _, c := range a.process {
			reg.MustRegister(c)
		}
	}
	if o := a.observer.Load(); o != nil {
		v := o.look(q.Get("partitions") == "1")
		reg.MustRegister(dialect(func(to out) {
			for _, tell := range families {
				tell(v, to)
			}
		}))
	}
	promhttp.HandlerFor(reg, promhttp.HandlerOpts{}).ServeHTTP(w, r)
}
