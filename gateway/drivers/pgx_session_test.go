package drivers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

func (p *pgxScript) connect(t *testing.T) {
	conn := p.open(t, "application_name", "a name", "DateStyle", "German, DMY", "TimeZone", "Asia/Kolkata",
		"options", `-c work_mem=7MB -c my.setting=a\ b`)
	for name, want := range map[string]string{"application_name": "a name", "DateStyle": "German, DMY", "TimeZone": "Asia/Kolkata",
		"work_mem": "7MB", "my.setting": "a b", "search_path": p.schema} {
		equal(t, name, one[string](t, conn, "SHOW "+name), want)
	}
	for name, want := range map[string]string{"application_name": "a name", "DateStyle": "German, DMY", "TimeZone": "Asia/Kolkata",
		"client_encoding": "UTF8", "standard_conforming_strings": "on", "integer_datetimes": "on", "is_superuser": "on",
		"session_authorization": "postgres"} {
		equal(t, "reported "+name, conn.PgConn().ParameterStatus(name), want)
	}
	equal(t, "server_version", conn.PgConn().ParameterStatus("server_version"), one[string](t, conn, "SHOW server_version"))
	equal(t, "a date", one[string](t, conn, "SELECT '2024-02-01'::date::text"), "01.02.2024")
	if err := conn.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}

	for _, bad := range []struct{ key, value, code string }{
		{"DateStyle", "nonsense", "22023"}, {"no_such_setting", "1", "42704"}, {"options", "-c work_mem=-9", "22023"},
	} {
		_, err := pgx.Connect(t.Context(), p.with(bad.key, bad.value))
		failsWith(t, err, bad.code)
	}
	cfg, _ := pgx.ParseConfig(p.url)
	cfg.Database = "nosuch"
	_, err := pgx.ConnectConfig(t.Context(), cfg)
	failsWith(t, err, "3D000")
	cfg.Database, cfg.User = "postgres", "nosuch"
	_, err = pgx.ConnectConfig(t.Context(), cfg)
	failsWith(t, err, "28000")
}

func (p *pgxScript) settings(t *testing.T) {
	conn := p.open(t)
	show := func(name, want string) {
		t.Helper()
		equal(t, name, one[string](t, conn, "SHOW "+name), want)
		// Every shard has it.
		for _, k := range []int64{1, 2, 3, 4, 5, 6, 7, 8} {
			var got string
			err := conn.QueryRow(t.Context(), "SELECT current_setting($2) FROM items WHERE id = $1", k, name).Scan(&got)
			if err != nil && !errors.Is(err, pgx.ErrNoRows) {
				t.Fatal(err)
			} else if err == nil {
				equal(t, name+" on a shard", got, want)
			}
		}
	}
	run(t, conn, "SET work_mem = '5MB'")
	show("work_mem", "5MB")
	run(t, conn, "SELECT set_config('work_mem', '6MB', false)")
	run(t, conn, "SET work_mem = '5MB'")
	run(t, conn, "BEGIN")
	run(t, conn, "SET LOCAL work_mem = '8MB'")
	run(t, conn, "SET TimeZone = 'Asia/Tokyo'")
	equal(t, "TimeZone", conn.PgConn().ParameterStatus("TimeZone"), "Asia/Tokyo")
	show("work_mem", "8MB")
	show("TimeZone", "Asia/Tokyo")
	run(t, conn, "COMMIT")
	show("work_mem", "5MB")
	show("TimeZone", "Asia/Tokyo")
	run(t, conn, "BEGIN")
	run(t, conn, "SET work_mem = '9MB'")
	run(t, conn, "SET application_name = 'in vain'")
	run(t, conn, "ROLLBACK")
	show("work_mem", "5MB")
	equal(t, "application_name", conn.PgConn().ParameterStatus("application_name"), "")
	run(t, conn, "BEGIN")
	run(t, conn, "SET LOCAL DateStyle = 'German'")
	equal(t, "DateStyle", conn.PgConn().ParameterStatus("DateStyle"), "German, DMY")
	run(t, conn, "COMMIT")
	equal(t, "DateStyle", conn.PgConn().ParameterStatus("DateStyle"), "ISO, MDY")
	run(t, conn, "RESET work_mem")
	show("work_mem", "4MB")
	run(t, conn, "SET application_name = 'it''s'")
	equal(t, "reported", conn.PgConn().ParameterStatus("application_name"), "it's")
	run(t, conn, "SET search_path = public")
	_, err := conn.Exec(t.Context(), "SELECT 1 FROM items WHERE id = 1", pgx.QueryExecModeExec)
	failsWith(t, err, "42P01")
	run(t, conn, "RESET search_path")
	run(t, conn, "SELECT 1 FROM items WHERE id = 1")
	_, err = conn.Exec(t.Context(), "SET work_mem = 'much'")
	failsWith(t, err, "22023")
	// What one client sets another does not see.
	equal(t, "another client's", one[string](t, p.open(t), "SHOW TimeZone"), one[string](t, p.open(t), "SHOW TimeZone"))
	if _, err := conn.Exec(t.Context(), "DISCARD ALL", pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatal(err)
	}
	equal(t, "application_name", conn.PgConn().ParameterStatus("application_name"), "")
	equal(t, "search_path", one[string](t, conn, "SHOW search_path", pgx.QueryExecModeSimpleProtocol), p.schema)
}

func (p *pgxScript) notify(t *testing.T) {
	listener, sender := p.open(t), p.open(t)
	run(t, listener, "LISTEN news")
	run(t, sender, "NOTIFY news, 'first'")
	run(t, sender, "SELECT pg_notify('news', $1)", "second")
	run(t, listener, "NOTIFY news, 'own'")
	for _, want := range []string{"first", "second", "own"} {
		ctx, stop := context.WithTimeout(t.Context(), 10*time.Second)
		n, err := listener.WaitForNotification(ctx)
		stop()
		if err != nil {
			t.Fatal(err)
		}
		equal(t, "channel", n.Channel, "news")
		equal(t, "payload", n.Payload, want)
	}
	run(t, listener, "UNLISTEN *")
	equal(t, "the connection goes on", one[int](t, listener, "SELECT 1"), 1)
}

func (p *pgxScript) pool(t *testing.T) {
	cfg, err := pgxpool.ParseConfig(p.with("search_path", p.schema))
	equal(t, "error", err, nil)
	cfg.MaxConns = 8
	cfg.ConnConfig.StatementCacheCapacity = 4 // statements come and go
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	equal(t, "error", err, nil)
	defer pool.Close()
	const workers, rounds = 24, 20
	keys := p.keys(workers * rounds)
	var wg sync.WaitGroup
	errs := make(chan error, workers)
	for w := range workers {
		wg.Go(func() {
			for r := range rounds {
				if err := poolRound(t.Context(), pool, keys[w*rounds+r], w, r); err != nil {
					errs <- fmt.Errorf("worker %d, round %d: %w", w, r, err)
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		t.Error(err)
	}
	tag, err := pool.Exec(t.Context(), "SELECT 1 FROM lines WHERE note = 'pool'")
	equal(t, "error", err, nil)
	equal(t, "rows", tag.RowsAffected(), workers*rounds)
}

// poolRound writes an item and its line, and reads them in ways of its own.
func poolRound(ctx context.Context, pool *pgxpool.Pool, key int64, w, r int) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO items(id, i) VALUES($1, $2)", key, r); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO lines(item, line, note) VALUES($1, $2, 'pool')", key, w)
		return err
	})
	if err != nil {
		return err
	}
	var line, i int
	sql := fmt.Sprintf("SELECT l.line, i.i, %d FROM items i JOIN lines l ON l.item = i.id WHERE i.id = $1", (w+r)%10)
	if err := pool.QueryRow(ctx, sql, key).Scan(&line, &i, nil); err != nil {
		return err
	}
	if line != w || i != r {
		return fmt.Errorf("got line %d of %d", line, i)
	}
	if r%5 == 0 {
		_, err := pool.Exec(ctx, "INSERT INTO items(id) VALUES($1)", key)
		var pe *pgconn.PgError
		if !errors.As(err, &pe) || pe.Code != "23505" {
			return fmt.Errorf("a second row: %v", err)
		}
	}
	return nil
}
