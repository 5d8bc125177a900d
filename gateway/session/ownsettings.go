package session

import (
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/wire"
)

// The gateway's own settings. To PostgreSQL they are custom parameters, with which each
// connection to a shard begins: SHOW, current_setting, SET LOCAL, savepoints and RESET are
// PostgreSQL's, as for any other. The gateway checks a value before it is set, and goes by it.

// gatherLimit bounds the rows that a statement brings together, in bytes. The
// configuration's limit is its default, and the most that it can be set to.
const gatherLimit = "shardgate.gather_limit"

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
		initial: func(h *Host) string { return showBytes(h.GatherBytes) },
		read: func(h *Host, name, value string) (string, *wire.Error) {
			n, e := readBytes(name, value)
			switch {
			case e != nil:
				return "", e
			case n < minGatherLimit || n > h.GatherBytes:
				return "", wire.Errorf(wire.InvalidParameterValue, "%d B is outside the valid range for parameter \"%s\" (%d .. %d)", n, name, minGatherLimit, h.GatherBytes).
					WithHint("limits.gather_bytes in the gateway's configuration is the most.")
			}
			return showBytes(n), nil
		},
	},
}

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
	n, e := readBytes(gatherLimit, s.ownSetting(gatherLimit))
	if e != nil {
		return s.host.GatherBytes
	}
	return n
}

// byteUnits are PostgreSQL's units of sizes, the largest first.
var byteUnits = []struct {
	name  string
	bytes int64
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}}

// showBytes writes a size as PostgreSQL does: in the largest unit that gives a whole number.
func showBytes(n int64) string {
	for _, u := range byteUnits {
		if n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return ""
}

var sizeText = regexp.MustCompile(`^\s*([+-]?(?:0[xX][0-9a-fA-F]+|[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?|\.[0-9]+(?:[eE][+-]?[0-9]+)?))\s*(.*?)\s*$`)

// readBytes reads a size as parse_int in PostgreSQL's guc.c reads one whose unit is the byte.
func readBytes(name, value string) (int64, *wire.Error) {
	invalid := wire.Errorf(wire.InvalidParameterValue, "invalid value for parameter \"%s\": \"%s\"", name, value)
	m := sizeText.FindStringSubmatch(value)
	if m == nil {
		return 0, invalid
	}
	unit := int64(0)
	for _, u := range byteUnits {
		if m[2] == u.name || m[2] == "" {
			unit = u.bytes // of none, the last one
		}
	}
	if unit == 0 {
		return 0, invalid.WithHint("Valid units for this parameter are \"B\", \"kB\", \"MB\", \"GB\", and \"TB\".")
	}
	var size float64
	if n, err := strconv.ParseInt(m[1], 0, 64); err == nil {
		size = float64(n)
	} else if size, err = strconv.ParseFloat(strings.ToLower(m[1]), 64); err != nil {
		return 0, invalid.WithHint("Value exceeds integer range.")
	}
	if size *= float64(unit); math.Abs(size) >= math.MaxInt64 {
		return 0, invalid.WithHint("Value exceeds integer range.")
	}
	return int64(math.RoundToEven(size)), nil
}
