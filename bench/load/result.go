package load

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/measure"
)

// Codes under which errors are counted that no server gave an SQLSTATE.
const (
	codeUnexpected = "unexpected answer"
	codeTimeout    = "no answer"
	codeConnection = "connection"
)

// Errors is how often transactions failed, by SQLSTATE or one of the words above.
type Errors map[string]ErrorCount

// ErrorCount is how often one error came, and how it read the first time.
type ErrorCount struct {
	Count   int64  `json:"count"`
	Example string `json:"example"`
}

// Total is the number of all errors.
func (e Errors) Total() (n int64) {
	for _, c := range e {
		n += c.Count
	}
	return n
}

func (e Errors) add(err error) {
	code := codeOf(err)
	c := e[code]
	if c.Count++; c.Count == 1 {
		c.Example = err.Error()
	}
	e[code] = c
}

// Merge adds what from has counted.
func (e Errors) Merge(from Errors) {
	for code, c := range from {
		mine := e[code]
		if mine.Count == 0 {
			mine.Example = c.Example
		}
		mine.Count += c.Count
		e[code] = mine
	}
}

func codeOf(err error) string {
	var s *ServerError
	var u *UnexpectedError
	var p *pgconn.PgError
	switch {
	case errors.As(err, &s):
		return s.Code
	case errors.As(err, &p):
		return p.Code
	case errors.As(err, &u):
		return codeUnexpected
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return codeTimeout
	}
	return codeConnection
}

// usable says whether a connection is in order after an error.
func usable(err error) bool {
	switch err.(type) {
	case *ServerError, *UnexpectedError:
		return true
	}
	return false
}

// unknown says whether a transaction that failed so may have been committed.
func unknown(err error) bool {
	if !usable(err) {
		return true
	}
	var s *ServerError
	return errors.As(err, &s) && (s.Code == "40003" || s.Code == "08007")
}

// Result is what one run did.
type Result struct {
	Elapsed   time.Duration
	Committed int64 // transactions that ended as they should
	Unknown   int64 // among the errors: transactions that may have been committed
	Errors    Errors
	Latency   *measure.Latency // of the committed ones, see also Scheduled
	Rows      int64            // of streamed answers
	FirstRow  *measure.Latency // of streamed answers, until the first row

	// Of an open loop, whose latencies count from when a transaction should have been sent
	// and include those that never were: how many were scheduled, how many of them were
	// sent before the schedule's end, and how many never.
	Scheduled, SentInTime, Unsent int64
	// Late is how late transactions were sent for which a client was free in time: the
	// benchmark's own part of the latencies. nil in a closed loop.
	Late *measure.Latency
}

// PerSecond is the number of committed transactions in a second.
func (r *Result) PerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Committed) / r.Elapsed.Seconds()
}
