package configs

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Position is a place in a configuration file. Line and Column count from 1;
// Column counts characters. Both are 0 where there is only a file, for example
// one that can't be opened.
type Position struct {
	File         string
	Line, Column int
}

// String returns file:line:column, or the file alone.
func (p Position) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Column)
}

// Error is one thing that is wrong in a configuration. Neither Message nor Hint
// has a password in it, nor a piece of one.
type Error struct {
	Position
	Message string // what is wrong, in lower case and without a full stop
	Hint    string // what to do about it; may be empty
	Err     error  // the cause, where there is one outside of the file; may be nil
}

// Error returns `file:line:column: message`, and the hint on a line of its own.
func (e *Error) Error() string {
	s := e.Position.String() + ": " + e.Message
	if e.Hint != "" {
		s += "\n    hint: " + e.Hint
	}
	return s
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// Errors is all that is wrong in a configuration, in the order of the file. It
// is never empty where it is returned as an error.
type Errors []*Error

// Error returns the errors, each on its line or lines.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap gives errors.As and errors.Is the single errors.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// maxErrors bounds what one file can report; nobody reads further.
const maxErrors = 100

// sorted returns es in the order of the file and without repetitions, at most
// maxErrors of them.
func (es Errors) sorted() Errors {
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	es = slices.CompactFunc(es, func(a, b *Error) bool {
		return a.Position == b.Position && a.Message == b.Message
	})
	if len(es) > maxErrors {
		more := &Error{Position: es[maxErrors].Position, Message: fmt.Sprintf("%d more errors", len(es)-maxErrors)}
		es = append(es[:maxErrors:maxErrors], more)
	}
	return es
}
