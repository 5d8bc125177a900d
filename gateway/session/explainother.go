package session

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/planner"
)

// The answer to an EXPLAIN in XML and YAML, as PostgreSQL's explain.c writes them: the plan
// that JSON gives, with the shards' plans as they have written them.

// field is a part of a plan: a value, or one that consists of others.
type field struct {
	name   string
	value  string
	quoted bool    // the value is text
	fields []field // of an object
	items  []field // of a list
	own    []string
}

func textField(name, value string) field { return field{name: name, value: value, quoted: true} }

// texts is a list of texts.
func texts[T ~string](name string, values []T) field {
	f := field{name: name, items: []field{}}
	for _, v := range values {
		f.items = append(f.items, textField("Item", string(v)))
	}
	return f
}

func numberField(name, value string) field { return field{name: name, value: value} }

func millisField(name string, ms float64) field {
	return numberField(name, strconv.FormatFloat(ms, 'f', 3, 64))
}

// explainedOther writes the answer as XML or YAML.
func (s *Session) explainedOther(x *explaining) [][]byte {
	p := s.gatewayPlan(x)
	var top []field
	if _, ok := x.node.(*planner.Route); ok {
		top = append(top, field{own: x.ownLines(&x.direct.tasks[0])})
		p.tasks = nil
		top = append(top, field{name: "Gateway", fields: p.contents(x)})
	} else {
		top = append(top, field{name: "Plan", fields: p.contents(x)})
		if x.Summary {
			top = append(top, millisField("Execution Time", millis(x.took)))
		}
	}
	var b strings.Builder
	if x.Format == planner.ExplainYAML {
		writeYAML(&b, top, 2, "- ")
		return [][]byte{[]byte(strings.TrimSuffix(b.String(), "\n"))}
	}
	b.WriteString("<explain xmlns=\"http://www.postgresql.org/2009/explain\">\n  <Query>\n")
	writeXML(&b, top, 4)
	b.WriteString("  </Query>\n</explain>")
	return [][]byte{[]byte(b.String())}
}

// contents are the fields of a plan of the gateway's, in the order of gatewayPlan.
func (p *gatewayPlan) contents(x *explaining) (out []field) {
	if p.NodeType != "" {
		out = append(out, textField("Node Type", string(p.NodeType)), textField("Custom Plan Provider", string(p.Provider)), texts("Gateway Plan", p.Plan))
	}
	if p.Done != "" {
		out = append(out, textField("Command Tag", string(p.Done)))
	}
	if len(p.Shards) > 0 {
		out = append(out, texts("Shards", p.Shards))
	}
	var came, tasks, parts []field
	for _, c := range p.Came {
		f := field{name: "Share", fields: []field{textField("Shard", c.Shard), numberField("Rows", strconv.FormatInt(c.Rows, 10)), numberField("Bytes", strconv.FormatInt(c.Bytes, 10))}}
		if c.Millis != nil {
			f.fields = append(f.fields, millisField("Complete After", *c.Millis))
		}
		came = append(came, f)
	}
	for i := range p.tasks {
		tasks = append(tasks, field{name: "Task", fields: []field{textField("Shard", p.tasks[i].shard), {own: x.ownLines(&p.tasks[i])}}})
	}
	for _, part := range p.Parts {
		parts = append(parts, field{name: "Part", fields: part.contents(x)})
	}
	for _, f := range []field{{name: "Gathered", items: came}, {name: "Tasks", items: tasks}, {name: "Parts", items: parts}} {
		if f.items != nil {
			out = append(out, f)
		}
	}
	if p.Final != nil {
		out = append(out, field{name: "Final", fields: p.Final.contents(x)})
	}
	return out
}

// ownLines are the lines of PostgreSQL's plan of a task, without what is around it.
func (x *explaining) ownLines(t *task) []string {
	lines := strings.Split(strings.TrimRight(t.plan.Value(0), "\n"), "\n")
	around, indent := 0, 2 // "- Plan: "
	if x.Format == planner.ExplainXML {
		around, indent = 2, 4 // <explain>, <Query>
	}
	if len(lines) < 2*around {
		return nil
	}
	lines = lines[around : len(lines)-around]
	for i, l := range lines {
		lines[i] = l[min(indent, len(l)):]
	}
	return lines
}

// writeYAML writes fields. The first one begins with a mark, which is a part of the indent.
func writeYAML(b *strings.Builder, fields []field, indent int, mark string) {
	margin := func() string {
		m := strings.Repeat(" ", indent-len(mark)) + mark
		mark = ""
		return m
	}
	for _, f := range fields {
		switch {
		case f.own != nil:
			for _, l := range f.own {
				b.WriteString(margin() + l + "\n")
			}
		case f.fields != nil:
			b.WriteString(margin() + f.name + ": \n")
			writeYAML(b, f.fields, indent+2, "")
		case f.items != nil:
			b.WriteString(margin() + f.name + ": \n")
			for _, item := range f.items {
				if item.quoted {
					b.WriteString(strings.Repeat(" ", indent+2) + "- " + yamlText(item.value) + "\n")
				} else {
					writeYAML(b, item.fields, indent+4, "- ")
				}
			}
		case f.quoted:
			b.WriteString(margin() + f.name + ": " + yamlText(f.value) + "\n")
		default:
			b.WriteString(margin() + f.name + ": " + f.value + "\n")
		}
	}
}

// yamlText quotes a text as PostgreSQL does: as JSON.
func yamlText(s string) string {
	b, _ := verbatim(s).MarshalJSON()
	return string(b)
}

var (
	xmlEscapes = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "\r", "&#x0d;")
	xmlNames   = strings.NewReplacer(" ", "-")
)

// writeXML writes fields.
func writeXML(b *strings.Builder, fields []field, indent int) {
	margin := strings.Repeat(" ", indent)
	for _, f := range fields {
		name := xmlNames.Replace(f.name)
		switch {
		case f.own != nil:
			for _, l := range f.own {
				b.WriteString(margin + l + "\n")
			}
		case f.fields != nil, f.items != nil:
			fmt.Fprintf(b, "%s<%s>\n", margin, name)
			writeXML(b, append(f.fields, f.items...), indent+2)
			fmt.Fprintf(b, "%s</%s>\n", margin, name)
		default:
			fmt.Fprintf(b, "%s<%s>%s</%s>\n", margin, name, xmlEscapes.Replace(f.value), name)
		}
	}
}
