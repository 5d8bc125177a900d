package history

import (
	"fmt"
	"time"
)

// Outcome is what the client knows of a transaction's end.
type Outcome string

const (
	OK      Outcome = "ok"   // COMMIT was answered: it is visible from then on
	Fail    Outcome = "fail" // it was refused or rolled back: nobody ever sees it
	Unknown Outcome = "info" // the answer to COMMIT was lost: either
)

// Isolation is a transaction's level.
type Isolation string

const (
	ReadCommitted  Isolation = "read committed"
	RepeatableRead Isolation = "repeatable read" // PostgreSQL's, which is snapshot isolation
)

// Func is what an operation does.
type Func string

const (
	Read   Func = "r"      // List is what was found at Key
	Append Func = "append" // of Value, to the list at Key; no value is appended twice to a key
	Write  Func = "w"      // of Value, to Key, which nothing else writes
	Add    Func = "add"    // Value to the balance of account Key
	// Balances reads those of all accounts, in their order, into List.
	Balances Func = "balances"
	// Sum reads the sum of all balances into Value.
	Sum Func = "sum"
)

// Op is one operation of a transaction that was answered.
type Op struct {
	Func  Func    `json:"f"`
	Key   int64   `json:"k,omitempty"`
	Value int64   `json:"v,omitempty"`
	List  []int64 `json:"l,omitempty"`
}

// Txn is one transaction of a client, from its first statement to the last answer.
type Txn struct {
	ID       int           `json:"id"` // its place in the history
	Workload Workload      `json:"workload"`
	Process  int           `json:"process"` // one client, which has one transaction at a time
	Session  int           `json:"session"` // one connection; a client that loses it gets another
	Gateway  int           `json:"gateway"` // that the session was with, from 0
	Start    time.Duration `json:"start_ns"`
	End      time.Duration `json:"end_ns"`
	Outcome  Outcome       `json:"outcome"`
	// Error is the SQLSTATE that ended it, "lost" for a connection, or begins with
	// WrongAnswer; "": none.
	Error     string    `json:"error,omitempty"`
	Isolation Isolation `json:"isolation"`
	// Statements is the number of statements, BEGIN and COMMIT apart.
	Statements int `json:"statements"`
	// Final marks a read of all keys after all else had ended, faults included. What it
	// does not list was not there.
	Final bool `json:"final,omitempty"`
	Ops   []Op `json:"ops"`
}

// WrongAnswer begins the Error of a transaction that was given an answer which can't be,
// such as UPDATE 0 for a row that nothing deletes.
const WrongAnswer = "wrong answer: "

// oneSnapshot says whether all reads were of one snapshot.
func (t *Txn) oneSnapshot() bool { return t.Isolation == RepeatableRead || t.Statements == 1 }

func (t *Txn) String() string { return fmt.Sprintf("T%d", t.ID) }

// describe is a transaction in a line.
func (t *Txn) describe() string {
	s := fmt.Sprintf("%s: client %d, session %d, gateway %d, %.3f to %.3f s, %s, %s", t, t.Process, t.Session, t.Gateway+1,
		t.Start.Seconds(), t.End.Seconds(), t.Isolation, t.Outcome)
	if t.Error != "" {
		s += " (" + t.Error + ")"
	}
	const most = 8
	for i, op := range t.Ops {
		if i == most {
			return s + fmt.Sprintf(" and %d operations more", len(t.Ops)-most)
		}
		switch op.Func {
		case Read:
			s += fmt.Sprintf("; r %d %s", op.Key, list(op.List))
		case Balances:
			s += fmt.Sprintf("; balances %v", op.List)
		case Sum:
			s += fmt.Sprintf("; sum %d", op.Value)
		default:
			s += fmt.Sprintf("; %s %d %d", op.Func, op.Key, op.Value)
		}
	}
	return s
}

// list prints the end of a list, which is what tells lists apart.
func list(values []int64) string {
	const most = 6
	if n := len(values); n > most {
		return fmt.Sprintf("[%d values, ... %s", n, fmt.Sprint(values[n-most:])[1:])
	}
	return fmt.Sprint(values)
}

// Workload is what the clients did.
type Workload string

const (
	Bank      Workload = "bank"
	Lists     Workload = "append"
	Registers Workload = "register"
	LongFork  Workload = "longfork"
)

// Workloads are all of them.
var Workloads = []Workload{Bank, Lists, Registers, LongFork}

// Header says what the transactions alone do not.
type Header struct {
	Seed     uint64 `json:"seed"`
	Accounts int    `json:"accounts"` // of the bank
	Total    int64  `json:"total"`    // of their balances
	Group    int64  `json:"group"`    // number of keys of a group of the long fork: 0 to Group-1 are the first
}

// Fault is something that was done to the cluster.
type Fault struct {
	What  string        `json:"what"`
	Start time.Duration `json:"start_ns"`
	End   time.Duration `json:"end_ns"` // it is healed
}

// History is all that the clients of a run saw.
type History struct {
	Header
	Txns   []*Txn
	Faults []Fault
}
