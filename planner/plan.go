package planner

import (
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
)

// Statement is a planned statement. It is immutable and shared by all sessions
// that send the same text but for its literals.
type Statement struct {
	Node Node
	// Writes says that rows may be changed, so that a transaction which ran it
	// on several shards needs two-phase commit.
	Writes bool
	// Rowless says that it is about no rows of any table: SHOW, or SELECT without FROM.
	Rowless bool
	// Returning says that it is a change of rows with a RETURNING.
	Returning bool
	// SchemaChange says that the schema snapshot is out of date afterwards.
	SchemaChange bool
	// NoTransaction marks what PostgreSQL runs outside transaction blocks only.
	NoTransaction bool
	// BlockOnly is the name of a statement that PostgreSQL runs inside transaction
	// blocks only, or "".
	BlockOnly string
	// HoldsSession says that the connection carries state of the client's
	// afterwards that nothing else can restore (temporary tables, LISTEN, WITH
	// HOLD cursors, session advisory locks).
	HoldsSession bool
	// SessionLock says that a session advisory lock may be among it, which a rollback
	// leaves.
	SessionLock bool
	// Taints says that code which the gateway can't see into ran: the
	// connection's settings are reset before anybody else gets it.
	Taints bool
	// TextSpecific says that the plan depends on the value of a literal: it
	// holds for this very text only.
	TextSpecific bool
	// NeedsParamTypes says that the parameters' types, which the client left to
	// the server, decide whether the key is pinned: ask a shard and plan again.
	NeedsParamTypes bool
	// Clock says that it asks for the time of the transaction, which is another on each
	// shard. Timed is its text with one time in the place of what asks for it, to be sent
	// to a shard that isn't the one whose time is the transaction's; nil where there is no
	// such text, or the plan sees to it.
	Clock bool
	Timed SQL
	// Guarded says that it has conditions joined by AND, of which PostgreSQL may not come to
	// evaluate the one that pins a key.
	Guarded bool
	// Asked are the calls in it that the gateway answers; nil without one. The statement
	// is run by Asked.Text, and this plan is not used.
	Asked *Asked
	// TakesData says that the client sends data for it: COPY FROM STDIN.
	TakesData bool
	// Params is the highest $n.
	Params int
	// Cursor is the name of the cursor that it declares, or "".
	Cursor string
	// TempTable is the name of the temporary relation that it makes, or "".
	TempTable string
	// instants are the literals that several shards would each read as a date or
	// a time; see instantIn.
	instants []int
	// expanded is the text that it was planned by, if that isn't the client's; see Source.
	expanded SQL
}

// Node is one of the kinds of plan: Route, Scatter, Ordered, Gather, Split, Broadcast,
// InsertSelect, CreateAs, Move, Steps, CopyIn, CopyOut, Cursor, Explain or Control.
type Node interface{ isNode() }

// Place says which shard a Route goes to when no key decides it.
type Place uint8

const (
	// Pinned: the shard of the pins.
	Pinned Place = iota
	// Home: the home shard.
	Home
	// Any: every shard gives the same answer.
	Any
)

// Route sends the client's own text to one shard.
type Route struct {
	Place Place
	// Pins must all lead to one shard. When they don't, Else is the plan, and
	// without that the statement is refused with Refusal.
	Pins    []Pin
	Else    Node
	Refusal *Refusal
	// KeyChange is a new key that the row is given. If it isn't on the shard of the
	// pins, Else is the plan.
	KeyChange *Pin
}

// Pin says that only rows with one of these keys matter.
type Pin struct {
	Table *Table
	Types []shardmap.KeyType
	// Keys are the alternatives, each with one value for each key column. An
	// alternative with a NULL finds nothing.
	Keys [][]Value
	// Stores says that the keys are stored, and not compared: storing a value in a
	// column with a type modifier may change it.
	Stores bool
	// Array is a parameter or literal that holds the alternatives of a key of
	// one column (key = ANY(array)); nil where Keys is used.
	Array *Value
}

// Source says where a value is found when the statement runs.
type Source uint8

const (
	// FromLiteral: Index is the literal's position among the text's literals.
	FromLiteral Source = iota
	// FromParam: Index is n-1 of $n.
	FromParam
	// IsNull: the constant NULL.
	IsNull
	// Computed: Expr, which a shard computes before the statement runs.
	Computed
)

// Value is one value in a statement.
type Value struct {
	Source   Source
	Index    int
	Negative bool   // a minus sign stands before the literal
	Type     uint32 // OID of the declared or cast-to type; 0 when PostgreSQL infers the column's own
	Expr     *Expression
}

// Expression is one of constants, parameters and settings alone, whose value is the same
// on each shard and for each row. Params are the types of the statement's parameters up
// to the last one in it.
type Expression struct {
	SQL    SQL
	Params []uint32
}

// Merge says how the shards' answers become one.
type Merge uint8

const (
	// Concat: all rows, one shard after the other; counts are added.
	Concat Merge = iota
	// AddIntegers: each shard gives one row of bigint; they are added column by
	// column.
	AddIntegers
	// First: every shard must succeed, the first one's answer is the client's
	// (reference tables, DDL).
	First
)

// Scatter sends the client's own text to several shards and merges the answers.
type Scatter struct {
	Merge Merge
	// Pins prune the shards to those of the alternatives; empty means all.
	Pins []Pin
}

// Broadcast runs a statement on every shard in one distributed transaction.
type Broadcast struct {
	Merge Merge
	// Pins prune the shards as in Scatter.
	Pins []Pin
	// LockReference names reference tables (quoted as needed) that are locked
	// on every shard, home first, before the statement runs there: writers of a
	// reference table go one after another, in the same order everywhere.
	LockReference []string
	// HomeFirst waits for the home shard before the others are asked.
	HomeFirst bool
	// Before is a statement that the others run before, or "".
	Before string
}

// Split divides the rows of an INSERT ... VALUES over the shards.
type Split struct {
	Table *Table
	Types []shardmap.KeyType
	// HeadEnd is where the first row begins; TailStart is where the last row
	// has ended. Positions are relative to literals, so that they hold for each
	// text of the same fingerprint.
	HeadEnd, TailStart sqltext.Anchor
	Rows               []SplitRow
	// TailParams are the parameters behind the rows.
	TailParams []ParamRef
	// KeepsOrder says that every row given comes back once, in order, so that a
	// RETURNING can be put back in the order of the rows.
	KeepsOrder bool
}

// SplitRow is one parenthesised row.
type SplitRow struct {
	Start, End sqltext.Anchor
	Key        []Value
	Params     []ParamRef
}

// ParamRef is a $n in the text.
type ParamRef struct {
	At sqltext.Anchor
	N  int // the n of $n
}

// CopyIn divides the rows of COPY table FROM STDIN over the shards, or sends
// them to all of a reference table.
type CopyIn struct {
	Table  *Table
	Types  []shardmap.KeyType
	Fields []int // positions of the key's columns among the input's fields
	Format CopyFormat
	// LockReference is as in Broadcast: the reference table that is copied into.
	LockReference []string
}

// CopyFormat is what splits COPY's text into rows and fields.
type CopyFormat struct {
	Binary    bool // the fields below are of the other formats
	CSV       bool
	Delimiter byte
	Quote     byte
	Escape    byte
	Null      string
	Header    bool
}

// CopyOut concatenates the shards' answers to COPY ... TO STDOUT.
type CopyOut struct {
	Header bool   // each shard sends a header line; one is passed on
	Binary bool   // each sends a header and a trailer, likewise
	Table  *Table // nil for COPY (query)
	Pins   []Pin
}

// Cursor runs FETCH, MOVE or CLOSE where the cursor is.
type Cursor struct {
	Name  string // "" for CLOSE ALL
	Close bool
}

// ControlKind is what a Control statement does.
type ControlKind uint8

const (
	Begin ControlKind = iota
	Commit
	Rollback
	Savepoint
	Release
	RollbackTo
	Set // SET, RESET, SET TRANSACTION and the like; Name is the setting
	DiscardAll
	Deallocate  // Name of the statement, or "" for ALL
	Prepare     // of the statement Name, by its SQL: see Named
	Execute     // of the statement Name
	Constraints // SET CONSTRAINTS
	Show        // SHOW of a table that the gateway makes, by its Name
	Empty       // no statement at all
)

// Control is a statement about the session or the transaction, which the
// session carries out itself.
type Control struct {
	Kind ControlKind
	Tag  string // the command tag that PostgreSQL answers
	Name string // savepoint, setting or prepared statement
	// Chain is AND CHAIN. Local is SET LOCAL. Reset is RESET or SET TO DEFAULT.
	Chain, Local, Reset bool
	// Modes is the text after BEGIN or START TRANSACTION that says the
	// transaction's modes, in SQL ("ISOLATION LEVEL ..."), or "".
	Modes string
	// Isolation is the level that Modes or a SET names, in lower case, or "".
	Isolation string
	// Settings that a SET changes; those that end with the transaction are not named.
	Settings []string
	// Value is what SET gives a setting, without quotes.
	Value string
	// Named is where PREPARE and EXECUTE have their parts.
	Named *NamedText
}

func (*Route) isNode()     {}
func (*Scatter) isNode()   {}
func (*Broadcast) isNode() {}
func (*Split) isNode()     {}
func (*CopyIn) isNode()    {}
func (*CopyOut) isNode()   {}
func (*Cursor) isNode()    {}
func (*Control) isNode()   {}

// Refusal is why a statement is not run. Code is an SQLSTATE.
type Refusal struct {
	Code, Message, Detail, Hint string
	Position                    int // in characters from 1; 0 when there is none
}

func (r *Refusal) Error() string { return r.Message }
