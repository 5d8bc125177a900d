package session

import "testing"

// Sizes are read and shown as PostgreSQL does those whose unit is the byte.
func TestReadBytes(t *testing.T) {
	for _, x := range []struct{ text, shown, hint string }{
		{"65536", "64kB", ""}, {" 1.5 MB ", "1536kB", ""}, {"0x100000", "1MB", ""}, {"010", "8B", ""}, {"1e6", "1000000B", ""},
		{".5GB", "512MB", ""}, {"1TB", "1TB", ""}, {"2.5B", "2B", ""}, {"-1kB", "-1kB", ""},
		{"", "", "none"}, {"lots", "", "none"}, {"1_000", "", "units"}, {"1 mb", "", "units"}, {"1 MB x", "", "units"}, {"1e400", "", "range"}, {"9999999999TB", "", "range"},
	} {
		n, e := byteUnits.read("s", x.text)
		switch {
		case x.hint == "" && (e != nil || byteUnits.show(n) != x.shown):
			t.Errorf("%q: %d, %v", x.text, n, e)
		case x.hint == "":
		case e == nil || e.Code != "22023", (x.hint == "units") != (len(e.Hint) > 30), (x.hint == "none") != (e.Hint == ""):
			t.Errorf("%q: %d, %v, %s", x.text, n, e, e.Hint)
		}
	}
}

// So are times.
func TestReadTimes(t *testing.T) {
	for _, x := range []struct{ text, shown string }{{"100", "100ms"}, {"2.5s", "2500ms"}, {"90 min", "90min"}, {"120min", "2h"}, {"1500us", "2ms"}, {"2d", "2d"}} {
		if n, e := timeUnits.read("s", x.text); e != nil || timeUnits.show(n) != x.shown {
			t.Errorf("%q: %d, %v", x.text, n, e)
		}
	}
	if _, e := timeUnits.read("s", "1 sec"); e == nil || e.Hint != `Valid units for this parameter are "us", "ms", "s", "min", "h", and "d".` {
		t.Error(e)
	}
}
