package nemesis

import (
	"reflect"
	"testing"
	"time"
)

// The same seed plans the same, every fault comes in a long plan, and none begins after
// the time.
func TestPlan(t *testing.T) {
	all, err := ByName([]string{"all"})
	if err != nil {
		t.Fatal(err)
	}
	const d = 20 * time.Minute
	events := Plan(5, d, all, 2, 4)
	if !reflect.DeepEqual(events, Plan(5, d, all, 2, 4)) || reflect.DeepEqual(events, Plan(6, d, all, 2, 4)) {
		t.Error("the plan does not follow from the seed")
	}
	seen := map[Fault]int{}
	for _, e := range events {
		seen[e.Fault]++
		if e.At >= d || e.Gateway > 1 || e.Shard > 3 {
			t.Errorf("%+v", e)
		}
	}
	if len(seen) != len(breaking) {
		t.Errorf("%v", seen)
	}
	if Plan(5, d, nil, 2, 4) != nil {
		t.Error("a plan without faults")
	}
}
