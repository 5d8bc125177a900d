package planner

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v6"
)

// copy plans COPY. COPY with a file or a program is for local tables only.
func (a *analysis) copy(n *pg.Node) *Statement {
	c := n.GetCopyStmt()
	if c.Relation == nil {
		return a.copyQuery(c)
	}
	d, t := a.distributionOf(c.Relation.Schemaname, c.Relation.Relname)
	if !distributed(d) || a.env.Shards == 1 {
		return &Statement{Node: &Route{Place: Home}, Writes: c.IsFrom}
	}
	if c.Filename != "" || c.IsProgram {
		refuse(unsupported("COPY of the distributed table "+t.String()+" with a server's file or program is not supported", "Use COPY ... FROM STDIN or TO STDOUT (\\copy in psql)."))
	}
	if d == ShardedView {
		refuse(unsupported("COPY of a view over a sharded table is not supported yet", "Copy its tables."))
	}
	if d == Sharded && t.Key == nil {
		refuse(a.missing(c.Relation))
	}
	format := a.copyFormat(c)
	if !c.IsFrom {
		if d == Reference && format.Binary {
			return &Statement{Node: &Route{Place: Home}} // whose OIDs the client knows
		} else if d == Reference {
			return &Statement{Node: &Route{Place: Any}}
		}
		return &Statement{Node: &CopyOut{Header: format.Header, Binary: format.Binary, Table: t}}
	}
	if c.WhereClause != nil {
		a.expr(c.WhereClause, &level{}, nil)
		for _, r := range []*Refusal{a.spanning(), a.multi()} {
			if r != nil {
				refuse(r)
			}
		}
		if d == Reference && a.volatile {
			refuse(unsupported("a volatile function would choose other rows for each copy of the reference table "+t.String(), "Filter the data first."))
		}
	}
	if t.Kind == 'v' {
		refuse(unsupported("COPY into the view "+t.String()+" is not supported", "Copy into its table."))
	}
	node := &CopyIn{Table: t, Format: format}
	if d == Reference {
		node.LockReference = []string{quoteTable(t)}
	}
	columns := copiedColumns(c, t)
	if d == Sharded {
		node.Types = t.Key.Types
		for _, k := range t.Key.Columns {
			i := slices.Index(columns, t.Columns[k].Name)
			if i < 0 {
				refuse(nullKey(t))
			}
			node.Fields = append(node.Fields, i)
		}
	}
	return &Statement{Node: node, Writes: true}
}

// copiedColumns are the names of the columns in the data of COPY FROM. It refuses those that
// leave a column to a default which differs between shards.
func copiedColumns(c *pg.CopyStmt, t *Table) []string {
	columns := stringsOf(c.Attlist)
	if len(columns) == 0 {
		for i := range t.Columns {
			if !t.Columns[i].Generated {
				columns = append(columns, t.Columns[i].Name)
			}
		}
	}
	for i := range t.Columns {
		col := &t.Columns[i]
		if slices.Contains(columns, col.Name) || col.Generated {
			continue
		}
		if col.Sequence || col.HasDefault && (col.Default == Stable || t.Distribution == Reference && col.Default != Immutable) {
			refuse(&Refusal{Code: "0A000", Message: "the default of column \"" + col.Name + "\" of " + t.String() + " would differ between shards",
				Hint: "Give the column in the data."})
		}
	}
	return columns
}

// copyFormat reads the options that say how rows and fields are written. It
// refuses what can't be divided or joined byte for byte.
func (a *analysis) copyFormat(c *pg.CopyStmt) CopyFormat {
	f := CopyFormat{Delimiter: '\t', Null: `\N`}
	values := map[string]string{}
	for _, o := range c.Options {
		d := o.GetDefElem()
		value := d.Arg.GetString_().GetSval()
		switch {
		case d.Arg.GetBoolean() != nil:
			value = choose(d.Arg.GetBoolean().Boolval, "true", "false")
		case d.Arg.GetInteger() != nil:
			value = choose(d.Arg.GetInteger().Ival != 0, "true", "false")
		case d.Arg == nil:
			value = "true"
		}
		values[strings.ToLower(d.Defname)] = value
	}
	for _, name := range []string{"default", "force_null", "force_not_null", "on_error"} {
		if _, ok := values[name]; ok {
			refuse(unsupported("COPY with "+strings.ToUpper(name)+" over several shards is not supported yet", "Leave the option out."))
		}
	}
	switch strings.ToLower(values["format"]) {
	case "", "text":
	case "csv":
		f.CSV, f.Delimiter, f.Null, f.Quote, f.Escape = true, ',', "", '"', '"'
	case "binary":
		f = CopyFormat{Binary: true}
	}
	one := func(name string, to *byte) {
		if v, ok := values[name]; ok && len(v) == 1 {
			*to = v[0]
		}
	}
	one("delimiter", &f.Delimiter)
	if _, ok := values["quote"]; ok {
		one("quote", &f.Quote)
		f.Escape = f.Quote
	}
	one("escape", &f.Escape)
	if v, ok := values["null"]; ok {
		f.Null = v
	}
	switch strings.ToLower(values["header"]) {
	case "true", "on", "1":
		f.Header = true
	case "match":
		refuse(unsupported("HEADER MATCH over several shards is not supported yet", "Use HEADER."))
	}
	if e := strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(values["encoding"])); e != "" && e != "utf8" {
		refuse(unsupported("COPY with an encoding over several shards is not supported yet", "Use UTF8."))
	}
	return f
}
