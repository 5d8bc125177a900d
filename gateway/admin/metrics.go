// Package admin is what operators look at: metrics, and the check of a
// configuration against its servers. It changes nothing.
package admin

import (
	"context"
	"net"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/shardgate/shardgate/gateway"
)

// Serve serves metrics in the text format of Prometheus at /metrics, profiles at
// /debug/pprof/, and 200 at /healthz, on address; nothing if that is empty. stop
// ends it.
func Serve(address string, g *gateway.Gateway) (stop func(), err error) {
	if address == "" {
		return func() {}, nil
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return func() {}, err
	}
	return ServeOn(l, g), nil
}

// ServeOn is Serve for a listener, which it closes at the end.
func ServeOn(l net.Listener, g *gateway.Gateway) (stop func()) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewBuildInfoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "shardgate_clients", Help: "Connected clients."},
			func() float64 { return float64(g.Clients()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "shardgate_in_doubt_transactions", Help: "Distributed transactions that the latest recovery could not finish."},
			func() float64 { n, _ := g.InDoubt(); return float64(n) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "shardgate_in_doubt_oldest_seconds", Help: "Age of the oldest of them; 0 without one."},
			func() float64 { _, oldest := g.InDoubt(); return oldest.Seconds() }),
		&poolCollector{g})
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		server.Shutdown(ctx)
		server.Close()
		<-done
	}
}

// poolCollector reports the pools as they are when it is asked.
type poolCollector struct{ g *gateway.Gateway }

var poolDesc = prometheus.NewDesc("shardgate_pool_connections", "Connections to a shard under a role, by state.", []string{"shard", "role", "state"}, nil)

func (c *poolCollector) Describe(ch chan<- *prometheus.Desc) { ch <- poolDesc }

func (c *poolCollector) Collect(ch chan<- prometheus.Metric) {
	for _, s := range c.g.PoolStats() {
		for state, n := range map[string]int{"open": s.Open, "idle": s.Idle, "waiting": s.Waiting} {
			ch <- prometheus.MustNewConstMetric(poolDesc, prometheus.GaugeValue, float64(n), s.Shard, s.Role, state)
		}
	}
}
