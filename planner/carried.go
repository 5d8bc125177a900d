package planner

import "slices"

// Carried says how values travel that an array of parameters, which is in binary, can't
// hold: those of arrays, enums, domains and the like. The zero value is for a type whose
// values can as they are, or can't at all.
type Carried struct {
	// Type is the name of the type, as SQL has it, with which they arrive.
	Type string
	// Text says that they travel as text, which is exact whatever the settings are; else
	// as values of the type below the domain.
	Text bool
}

// send is an expression of the type as it travels.
func (c Carried) send(expr SQL) SQL {
	if !c.Text {
		return expr
	}
	return slices.Concat(own("CAST("), expr, own(" AS pg_catalog.text)"))
}

// Receive is what has travelled, by its name, as it was.
func (c Carried) Receive(name string) string {
	if c.Type == "" {
		return name
	}
	return "CAST(" + name + " AS " + c.Type + ")"
}
