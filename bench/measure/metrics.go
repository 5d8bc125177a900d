package measure

import (
	"context"
	"fmt"
	"net/http"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const metricsTimeout = 10 * time.Second

// metricsOf reads the metrics of a process in the text format of Prometheus.
func metricsOf(ctx context.Context, url string) (map[string]*dto.MetricFamily, error) {
	ctx, cancel := context.WithTimeout(ctx, metricsTimeout)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, answer.Status)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(answer.Body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", url, err)
	}
	return families, nil
}

// Heap is what a Go process has allocated since it began, whatever became of it.
type Heap struct {
	Bytes   float64
	Objects float64
}

// Sub is what was allocated between two readings.
func (h Heap) Sub(earlier Heap) Heap {
	return Heap{Bytes: h.Bytes - earlier.Bytes, Objects: h.Objects - earlier.Objects}
}

// HeapOf reads that of a process from its metrics, where the Go collector of
// Prometheus's client library shows it.
func HeapOf(ctx context.Context, url string) (Heap, error) {
	families, err := metricsOf(ctx, url)
	if err != nil {
		return Heap{}, err
	}
	var h Heap
	for _, m := range []struct {
		name string
		to   *float64
	}{{"go_memstats_alloc_bytes_total", &h.Bytes}, {"go_memstats_mallocs_total", &h.Objects}} {
		list := families[m.name].GetMetric()
		if len(list) != 1 || list[0].GetCounter() == nil {
			return Heap{}, fmt.Errorf("%s has no counter %s", url, m.name)
		}
		*m.to = list[0].GetCounter().GetValue()
	}
	return h, nil
}

// BuildOf is what a Go process says of itself by its metrics: its version, and the one of
// Go that it was built with. What it does not say is "".
func BuildOf(ctx context.Context, url string) (version, goVersion string, err error) {
	families, err := metricsOf(ctx, url)
	if err != nil {
		return "", "", err
	}
	label := func(name string) string {
		for _, m := range families[name].GetMetric() {
			for _, l := range m.GetLabel() {
				if l.GetName() == "version" {
					return l.GetValue()
				}
			}
		}
		return ""
	}
	return label("go_build_info"), label("go_info"), nil
}
