package scenario

import (
	"errors"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/bench/history"
)

// A client claims no more than it knows.
func TestOutcome(t *testing.T) {
	lost := errors.New("unexpected EOF")
	for _, c := range []struct {
		err        error
		committing bool
		want       history.Outcome
		text       string
	}{
		{nil, true, history.OK, ""},
		{lost, true, history.Unknown, "lost"},
		{lost, false, history.Fail, "lost"},
		{&pgconn.PgError{Code: "40003"}, true, history.Unknown, "40003"},
		{&pgconn.PgError{Code: "08007"}, true, history.Unknown, "08007"},
		{&pgconn.PgError{Code: "08006"}, true, history.Fail, "08006"},
		{fmt.Errorf("in a statement: %w", &pgconn.PgError{Code: "40001"}), true, history.Fail, "40001"},
		{wrong("UPDATE 0"), false, history.Fail, history.WrongAnswer + "UPDATE 0"},
		{wrong("UPDATE 0"), true, history.Unknown, history.WrongAnswer + "UPDATE 0"},
	} {
		if got, text := outcome(c.err, c.committing); got != c.want || text != c.text {
			t.Errorf("%v, %v: %s, %s", c.err, c.committing, got, text)
		}
	}
}

// A list gives its key up when it is long, and only then.
func TestListKeys(t *testing.T) {
	var l listKeys
	first := l.draw(0, false)
	for range listLength {
		if got := l.draw(0, true); got != first {
			t.Fatalf("key %d in place of %d", got, first)
		}
	}
	if l.draw(0, true) == first || l.draw(1, true) == first {
		t.Error("the key is still in use")
	}
}
