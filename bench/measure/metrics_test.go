package measure

import (
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

var kept []byte

// What is allocated between two readings is between them.
func TestHeap(t *testing.T) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewBuildInfoCollector())
	s := httptest.NewServer(promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	defer s.Close()
	before, err := HeapOf(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	const size, times = 1 << 20, 20
	for range times {
		kept = make([]byte, size)
	}
	after, err := HeapOf(t.Context(), s.URL)
	if err != nil {
		t.Fatal(err)
	}
	if d := after.Sub(before); d.Bytes < size*times || d.Bytes > size*times*2 || d.Objects < times {
		t.Errorf("%+v between the readings", d)
	}
	if version, goVersion, err := BuildOf(t.Context(), s.URL); err != nil || version == "" || goVersion != runtime.Version() {
		t.Errorf("version %q, built with %q, %v", version, goVersion, err)
	}
}

func TestNoHeap(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/none":
			w.Write([]byte("# TYPE other counter\nother 5\n"))
		case "/odd":
			w.Write([]byte("<html>"))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	for path, want := range map[string]string{"/none": "has no counter", "/odd": "text format", "/x": "404"} {
		if _, err := HeapOf(t.Context(), s.URL+path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
