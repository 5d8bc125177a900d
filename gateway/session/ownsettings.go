package session

import (
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// The gateway's own settings. To PostgreSQL they are custom parameters, with which each
// connection to a shard begins: SHOW, current_setting, SET LOCAL, savepoints and RESET are
// PostgreSQL's, as for any other. The gateway checks a value before it is set, and goes by it.

// gatherLimit bounds the rows that a statement brings together, in bytes. The
// configuration's limit is its default, and the most that it can be set to.
const gatherLimit = "shardgate.gather_limit"

// snapshotMode says whether reads over several shards see one snapshot of them: atomic, or
// shard, each shard's own.
const snapshotMode = "shardgate.snapshot"

// fenceTimeout bounds the waiting for such a snapshot.
const fenceTimeout = "shardgate.fence_timeout"

// minGatherLimit is the least, as in the configuration.
const minGatherLimit = 64 << 10

// ownSetting is what the gateway knows of a setting.
type ownSetting struct {
	// initial is the value that sessions begin with.
	initial func(*Host) string
	// read checks a value, and gives it as SHOW does.
	read func(h *Host, name, value string) (string, *wire.Error)
}

var ownSettings = map[string]ownSetting{
	gatherLimit: {
		initial: func(h *Host) string { return byteUnits.show(h.GatherBytes) },
		read: func(h *Host, name, value string) (string, *wire.Error) {
			n, e := byteUnits.read(name, value)
			switch {
			case e != nil:
				return "", e
			case n < minGatherLimit || n > h.GatherBytes:
				return "", wire.Errorf(wire.InvalidParameterValue, "%d B is outside the valid range for parameter \"%s\" (%d .. %d)", n, name, minGatherLimit, h.GatherBytes).
					WithHint("limits.gather_bytes in the gateway's configuration is the most.")
			}
			return byteUnits.show(n), nil
		},
	},
	snapshotMode: {
		initial: func(*Host) string { return "atomic" },
		read: func(_ *Host, name, value string) (string, *wire.Error) {
			v := strings.ToLower(value)
			if v != "atomic" && v != "shard" {
				return "", wire.Errorf(wire.InvalidParameterValue, "invalid value for parameter \"%s\": \"%s\"", name, value).
					WithHint("Available values: atomic, shard.")
			}
			return v, nil
		},
	},
	fenceTimeout: {
		initial: func(h *Host) string { return timeUnits.show(h.FenceTimeout.Milliseconds()) },
		read: func(_ *Host, name, value string) (string, *wire.Error) {
			n, e := timeUnits.read(name, value)
			switch {
			case e != nil:
				return "", e
			case n < 1 || n > maxFenceTimeout:
				return "", wire.Errorf(wire.InvalidParameterValue, "%d ms is outside the valid range for parameter \"%s\" (%d .. %d)", n, name, 1, maxFenceTimeout)
			}
			return timeUnits.show(n), nil
		},
	},
}

const maxFenceTimeout = 24 * 60 * 60 * 1000

// DefaultSettings are the values of the gateway's own settings that every connection to a
// shard has to begin with.
func (h *Host) DefaultSettings() map[string]string {
	out := map[string]string{}
	for name, o := range ownSettings {
		out[name] = o.initial(h)
	}
	return out
}

// CheckSetting gives the value of one of the gateway's own settings as SHOW does; any other
// setting's as it is.
func (h *Host) CheckSetting(name, value string) (string, *wire.Error) {
	if !planner.OwnSetting(name) {
		return value, nil
	}
	o, ok := ownSettings[name]
	if !ok {
		return "", unknownSetting(name)
	}
	return o.read(h, name, value)
}

func unknownSetting(name string) *wire.Error {
	return wire.Errorf(wire.UndefinedObject, "unrecognized configuration parameter \"%s\"", name)
}

// ownSet checks a SET or RESET of one of the gateway's own settings. The result is the
// statement to send in its place.
func (s *Session) ownSet(c *planner.Control, text string) (string, *wire.Error) {
	if _, ok := ownSettings[c.Name]; !ok {
		return "", unknownSetting(c.Name)
	}
	if c.Reset {
		return text, nil
	}
	value, e := s.host.CheckSetting(c.Name, c.Value)
	return "SELECT pg_catalog.set_config(" + planner.QuoteLiteral(c.Name) + "," + planner.QuoteLiteral(value) + "," + strconv.FormatBool(c.Local) + ")", e
}

// ownSetting is the value of one of the gateway's own settings, as SHOW gives it.
func (s *Session) ownSetting(name string) string {
	if v, ok := s.local.Get(name); ok {
		return v
	}
	if v, ok := s.vars.Get(name); ok {
		return v
	}
	return ownSettings[name].initial(s.host)
}

// gatherBytes is how many bytes of rows a statement may bring together.
func (s *Session) gatherBytes() int64 {
	n, e := byteUnits.read(gatherLimit, s.ownSetting(gatherLimit))
	if e != nil {
		return s.host.GatherBytes
	}
	return n
}

// fenceWait is how long a snapshot over several shards may be waited for.
func (s *Session) fenceWait() time.Duration {
	n, e := timeUnits.read(fenceTimeout, s.ownSetting(fenceTimeout))
	if e != nil {
		return s.host.FenceTimeout
	}
	return time.Duration(n) * time.Millisecond
}

// units are those of a setting, the largest first; sizes are in the base unit, which is the
// last that is 1.
type units []struct {
	name string
	size float64
}

// byteUnits and timeUnits are PostgreSQL's.
var (
	byteUnits = units{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}
	timeUnits = units{{"d", 24 * 60 * 60 * 1000}, {"h", 60 * 60 * 1000}, {"min", 60 * 1000}, {"s", 1000}, {"ms", 1}, {"us", 1.0 / 1000}}
)

// show writes a value as PostgreSQL does: in the largest unit that gives a whole number.
func (us units) show(n int64) string {
	for _, u := range us {
		if u.size >= 1 && n%int64(u.size) == 0 {
			return strconv.FormatInt(n/int64(u.size), 10) + u.name
		}
	}
	return ""
}

var sizeText = regexp.MustCompile(`^\s*([+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?))\s*(.*?)\s*$`)

// read reads a value as parse_int in PostgreSQL's guc.c reads one with these units.
func (us units) read(name, value string) (int64, *wire.Error) {
	invalid := wire.Errorf(wire.InvalidParameterValue, "invalid value for parameter \"%s\": \"%s\"", name, value)
	m := sizeText.FindStringSubmatch(value)
	if m == nil {
		return 0, invalid
	}
	unit, names := 0.0, ""
	for i := len(us) - 1; i >= 0; i-- {
		u := us[i]
		if m[2] == u.name || m[2] == "" && u.size == 1 {
			unit = u.size
		}
		names += choose(i == 0, ", and ", choose(names == "", "", ", ")) + `"` + u.name + `"`
	}
	if unit == 0 {
		return 0, invalid.WithHint("Valid units for this parameter are %s.", names)
	}
	var size float64
	if n, err := strconv.ParseInt(m[1], 0, 64); err == nil {
		size = float64(n)
	} else if size, err = strconv.ParseFloat(strings.ToLower(m[1]), 64); err != nil {
		return 0, invalid.WithHint("Value exceeds integer range.")
	}
	if size *= unit; math.Abs(size) >= math.MaxInt64 {
		return 0, invalid.WithHint("Value exceeds integer range.")
	}
	return int64(math.RoundToEven(size)), nil
}
