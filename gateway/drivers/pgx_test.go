package drivers

import (
	"context"
	"errors"
	"os/exec"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/shardgate/shardgate/gateway/localpg/pgtest"
)

// moduleVersion is the version of a module that the test is built with.
func moduleVersion(path string) string {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Version}}", path).Output()
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(out))
}

// pgxScript is the state of one run of testPgx.
type pgxScript struct {
	target
	unusedKeys
}

func testPgx(t *testing.T, tg target) {
	t.Logf("pgx %s, %s", moduleVersion("github.com/jackc/pgx/v5"), runtime.Version())
	p := &pgxScript{target: tg}
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"connect", p.connect}, {"types", p.types}, {"rows", p.rows}, {"batch", p.batch}, {"pipeline", p.pipeline},
		{"transactions", p.transactions}, {"errors", p.errors}, {"cancel", p.cancel}, {"copy", p.copy},
		{"notify", p.notify}, {"settings", p.settings}, {"user types", p.userTypes}, {"nested types", p.nestedTypes}, {"metadata", p.metadata},
		{"prepared", p.prepared}, {"cursors", p.cursors}, {"temporary tables", p.temporary}, {"pool", p.pool}, {"large", p.large},
	} {
		t.Run(part.name, part.run)
	}
}

func (p *pgxScript) open(t *testing.T, pairs ...string) *pgx.Conn {
	t.Helper()
	return pgtest.Conn(t, p.with(append([]string{"search_path", p.schema}, pairs...)...))
}

// one reads the only value of a query.
func one[T any](t *testing.T, conn interface {
	QueryRow(context.Context, string, ...any) pgx.Row
}, sql string, args ...any) (v T) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: got %v, want %v", what, got, want)
	}
}

// failsWith checks an error's SQLSTATE and returns the error.
func failsWith(t *testing.T, err error, code string) *pgconn.PgError {
	t.Helper()
	var pe *pgconn.PgError
	if !errors.As(err, &pe) || pe.Code != code {
		t.Fatalf("got %v, want an error with SQLSTATE %s", err, code)
	}
	return pe
}

// refused checks that the gateway refuses something with a hint; PostgreSQL must
// do it. It says whether it was done.
func (p *pgxScript) refused(t *testing.T, err error) bool {
	t.Helper()
	if !p.gateway {
		if err != nil {
			t.Fatal(err)
		}
		return false
	}
	if pe := failsWith(t, err, "0A000"); pe.Hint == "" || pe.Message == "" {
		t.Fatalf("no hint in %+v", pe)
	}
	return true
}
