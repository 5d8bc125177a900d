package session

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/shardgate/shardgate/planner"
)

// How the answer to an EXPLAIN is written: in lines of text, or as JSON. XML and YAML are
// in explainother.go.

// figures are what EXPLAIN ANALYZE on a shard says of all that ran there. A string is
// empty if nothing is said.
type figures struct {
	rows   string
	millis float64
	timed  bool
}

var (
	actualRows = regexp.MustCompile(`\(actual (?:time=\S+ )?rows=([0-9.]+) loops=`)
	// In XML and YAML, the first is the uppermost node's.
	structuredRows = regexp.MustCompile(`Actual[ -]Rows(?:>|: )([0-9.]+)`)
	structuredTime = regexp.MustCompile(`Execution[ -]Time(?:>|: )([0-9.]+)`)
	executionTime  = regexp.MustCompile(`(?m)^Execution Time: ([0-9.]+) ms`)
)

// figures reads a task's plan.
func (x *explaining) figures(t *task) figures {
	var f figures
	if x.Format == planner.ExplainJSON {
		var plans []struct {
			Plan struct {
				Rows json.Number `json:"Actual Rows"`
			}
			Millis *float64 `json:"Execution Time"`
		}
		if json.Unmarshal([]byte(t.plan.Value(0)), &plans) == nil && len(plans) > 0 {
			f.rows = plans[0].Plan.Rows.String()
			if m := plans[0].Millis; m != nil {
				f.millis, f.timed = *m, true
			}
		}
	} else if x.Format != planner.ExplainText {
		if m := structuredRows.FindStringSubmatch(t.plan.Value(0)); m != nil {
			f.rows = m[1]
		}
		if m := structuredTime.FindStringSubmatch(t.plan.Value(0)); m != nil {
			f.millis, _ = strconv.ParseFloat(m[1], 64)
			f.timed = true
		}
	} else {
		if m := actualRows.FindStringSubmatch(t.plan.Value(0)); m != nil {
			f.rows = m[1]
		}
		for _, l := range t.plan.Rows {
			if m := executionTime.FindSubmatch(l[0]); m != nil {
				f.millis, _ = strconv.ParseFloat(string(m[1]), 64)
				f.timed = true
			}
		}
	}
	switch x.node.(type) {
	case *planner.Scatter, *planner.Ordered:
		return f
	}
	if !x.Of.Returning {
		f.rows = "" // of a result that there isn't: not those that were written
	}
	return f
}

// shown are the tasks whose plans are shown: all with VERBOSE, else the slowest, the
// first one if no times are known.
func (x *explaining) shown(e *explained) (tasks []task, which string) {
	of := fmt.Sprintf(" of %d", len(e.shards))
	if x.Verbose || len(e.tasks) < 2 {
		return e.tasks, choose(len(e.tasks) < len(e.shards), ", one"+of, "")
	}
	at, most := 0, figures{}
	for i := range e.tasks {
		if f := x.figures(&e.tasks[i]); f.timed && f.millis > most.millis {
			at, most = i, f
		}
	}
	return e.tasks[at : at+1], choose(most.timed, ", the slowest", ", one") + of
}

func choose(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// names are the names of shards.
func (s *Session) names(shards []int) []string {
	var out []string
	for _, i := range shards {
		out = append(out, s.host.Pools.Shards[i].Name)
	}
	return out
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// explainedText writes the answer as text.
func (s *Session) explainedText(x *explaining) [][]byte {
	parts, first := x.steps, x.first()
	final := &first.direct
	if first.plan != nil {
		final = &first.final
	}
	for i := range first.parts {
		parts = append(parts, s.explainedLines(first, &first.parts[i]))
	}
	text := planner.RenderExplained(x.node, x.text, x.lits, parts, s.explainedLines(first, final))
	if x.done.Verb != "" {
		text += "\n  done: " + tagText(x.done)
	}
	if x.Summary {
		text += fmt.Sprintf("\nExecution Time: %.3f ms", millis(x.took))
	}
	var lines [][]byte
	for _, l := range strings.Split(text, "\n") {
		lines = append(lines, []byte(l))
	}
	return lines
}

// first is the EXPLAIN that knows the shards' plans: the one of the first round, if there
// are several.
func (x *explaining) first() *explaining {
	if x.sub != nil {
		return x.sub
	}
	return x
}

// explainedLines are the lines about a statement on shards.
func (s *Session) explainedLines(x *explaining, e *explained) []string {
	names := s.names(e.shards)
	if len(names) == 0 {
		return nil // of Steps
	}
	if e == &x.final && !x.Analyze {
		return []string{choose(len(names) == 1, "shard ", "shards ") + strings.Join(names, ", ")} // the plan depends on the rows that there are
	}
	var lines []string
	switch {
	case len(e.shards) == 1 && e.rows == nil && e.came == nil:
	case x.Analyze, e.rows != nil:
		for i, name := range names {
			lines = append(lines, "shard "+name+x.aboutShard(e, i))
		}
	default:
		lines = append(lines, "shards "+strings.Join(names, ", "))
	}
	tasks, which := x.shown(e)
	for i := range tasks {
		lines = append(lines, "->  shard "+tasks[i].shard+which)
		for _, row := range tasks[i].plan.Rows {
			lines = append(lines, "      "+string(row[0]))
		}
	}
	return lines
}

// aboutShard is what is known of a shard's work.
func (x *explaining) aboutShard(e *explained, i int) string {
	var about []string
	if e.rows != nil {
		about = append(about, count(strconv.Itoa(e.rows[i]))+" to insert")
	}
	switch {
	case e.came != nil:
		c := e.came[i]
		about = append(about, count(strconv.FormatInt(c.rows, 10)), fmt.Sprintf("%d bytes", c.bytes))
		if x.Timing {
			about = append(about, fmt.Sprintf("after %.3f ms", millis(c.after)))
		}
	case x.Analyze:
		f := x.figures(&e.tasks[i])
		if f.rows != "" {
			about = append(about, count(f.rows))
		}
		if f.timed && x.Timing {
			about = append(about, fmt.Sprintf("%.3f ms", f.millis))
		}
	}
	if len(about) == 0 {
		return ""
	}
	return ": " + strings.Join(about, ", ")
}

// count is a number of rows in words.
func count(n string) string { return n + choose(n == "1", " row", " rows") }

// verbatim is a string that is written as JSON byte by byte, in whatever encoding the
// client has.
type verbatim string

func (v verbatim) MarshalJSON() ([]byte, error) {
	b := []byte{'"'}
	for _, c := range []byte(v) {
		switch {
		case c == '"', c == '\\':
			b = append(b, '\\', c)
		case c < ' ':
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return append(b, '"'), nil
}

// gatewayPlan is the gateway's plan in JSON.
type gatewayPlan struct {
	NodeType verbatim          `json:"Node Type,omitempty"`
	Provider verbatim          `json:"Custom Plan Provider,omitempty"`
	Plan     []verbatim        `json:"Gateway Plan,omitempty"` // its lines as in text
	Done     verbatim          `json:"Command Tag,omitempty"`  // of what was run in several rounds
	Shards   []string          `json:"Shards,omitempty"`
	Came     []shareJSON       `json:"Gathered,omitempty"` // with ANALYZE
	Tasks    []json.RawMessage `json:"Tasks,omitempty"`    // PostgreSQL's plans, with the shard's name
	Parts    []*gatewayPlan    `json:"Parts,omitempty"`
	Final    *gatewayPlan      `json:"Final,omitempty"`
	tasks    []task            // that Tasks are of
}

// shareJSON is a share in JSON.
type shareJSON struct {
	Shard       string
	Rows, Bytes int64
	Millis      *float64 `json:"Complete After,omitempty"`
}

// explainedJSON writes the answer as JSON. The plan of one shard is PostgreSQL's own,
// with the gateway's beside it; programs find in it what they look for.
func (s *Session) explainedJSON(x *explaining) [][]byte {
	p := s.gatewayPlan(x)
	var answer any
	if _, ok := x.node.(*planner.Route); ok {
		p.Tasks = nil
		answer = beside(planOf(&x.direct.tasks[0]), `,"Gateway":`, p, "")
	} else {
		top := struct {
			Plan   *gatewayPlan
			Millis *float64 `json:"Execution Time,omitempty"`
		}{Plan: p}
		if x.Summary {
			ms := millis(x.took)
			top.Millis = &ms
		}
		answer = top
	}
	return [][]byte{bytes.TrimSuffix(marshal([]any{answer}, "  "), []byte("\n"))}
}

// gatewayPlan is the gateway's plan with those of the shards.
func (s *Session) gatewayPlan(x *explaining) *gatewayPlan {
	first := x.first()
	p := s.gatewayJSON(first, &first.direct)
	for i := range first.parts {
		p.Parts = append(p.Parts, s.gatewayJSON(first, &first.parts[i]))
	}
	if first.plan != nil {
		p.Final = s.gatewayJSON(first, &first.final)
	}
	for _, l := range strings.Split(planner.RenderExplained(x.node, x.text, x.lits, x.steps, nil), "\n") {
		p.Plan = append(p.Plan, verbatim(l))
	}
	if x.done.Verb != "" {
		p.Done = verbatim(tagText(x.done))
	}
	kind, _, _ := strings.Cut(string(p.Plan[0]), " ")
	p.NodeType, p.Provider = verbatim(strings.TrimSuffix(kind, ",")), "Shardgate"
	return p
}

// gatewayJSON is what is known of a statement on shards.
func (s *Session) gatewayJSON(x *explaining, e *explained) *gatewayPlan {
	p := &gatewayPlan{Shards: s.names(e.shards)}
	for i, c := range e.came {
		came := shareJSON{Shard: p.Shards[i], Rows: c.rows, Bytes: c.bytes}
		if x.Timing {
			ms := millis(c.after)
			came.Millis = &ms
		}
		p.Came = append(p.Came, came)
	}
	tasks := e.tasks
	if !x.Analyze {
		tasks, _ = x.shown(e)
	}
	p.tasks = tasks
	for i := range tasks {
		if x.Format != planner.ExplainJSON {
			break
		}
		p.Tasks = append(p.Tasks, beside(planOf(&tasks[i]), "", nil, tasks[i].shard))
	}
	return p
}

// planOf is a shard's plan as a JSON object: the only one in an array.
func planOf(t *task) json.RawMessage {
	var plans []json.RawMessage
	if json.Unmarshal([]byte(t.plan.Value(0)), &plans) != nil || len(plans) != 1 {
		return json.RawMessage("{}")
	}
	return plans[0]
}

// beside adds to a JSON object: a shard's name before what is in it, or a field behind.
func beside(object json.RawMessage, field string, value any, shard string) json.RawMessage {
	inner := bytes.TrimSpace(object[1 : len(object)-1])
	out := []byte{'{'}
	if shard != "" {
		out = fmt.Appendf(out, `"Shard":%s`, marshal(shard, ""))
		if len(inner) > 0 {
			out = append(out, ',')
		}
	}
	out = append(out, inner...)
	if field != "" {
		out = append(append(out, field...), marshal(value, "")...)
	}
	return append(out, '}')
}

// marshal encodes JSON without the escapes of HTML.
func marshal(v any, indent string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return []byte("null")
	}
	return b.Bytes()
}
