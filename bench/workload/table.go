package workload

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/shardgate/shardgate/bench/target"
)

// table is one that is made, filled and checked by its definition.
type table struct {
	name    string
	create  string // what is between the parentheses of CREATE TABLE
	columns string // that are filled; "": the table begins empty
	// rows is how many there are, and row makes the n-th one, from 1, in COPY's text format.
	rows func(Size) int64
	row  func(dst []byte, n int64) []byte
	// after is run when the table is full, such as to make its keys.
	after string
	// last selects the last row, $1; "": that the table is there is enough.
	last string
}

// loadTables makes tables anew through the store's URL.
func loadTables(ctx context.Context, s *target.Store, size Size, tables []table) error {
	db, err := connect(ctx, s.URL)
	if err != nil {
		return err
	}
	defer db.close()
	for _, t := range tables {
		if err := db.exec(ctx, "DROP TABLE IF EXISTS "+t.name); err != nil {
			return err
		}
		if err := db.exec(ctx, fmt.Sprintf("CREATE TABLE %s (%s)", t.name, t.create)); err != nil {
			return err
		}
	}
	for _, t := range tables {
		if t.columns == "" {
			continue
		}
		if err := db.copyIn(ctx, fmt.Sprintf("COPY %s (%s) FROM STDIN", t.name, t.columns), &rows{last: t.rows(size), row: t.row}); err != nil {
			return err
		}
	}
	for _, t := range tables {
		if t.after == "" {
			continue
		}
		if err := db.exec(ctx, t.after); err != nil {
			return err
		}
	}
	return tidy(ctx, s)
}

// loadedTables looks for the last row of each table. If some of the tables are there and
// others are not, that is an error: they may be somebody else's.
func loadedTables(ctx context.Context, s *target.Store, size Size, tables []table) (bool, error) {
	db, err := connect(ctx, s.URL)
	if err != nil {
		return false, err
	}
	defer db.close()
	var missing []string
	for _, t := range tables {
		sql := fmt.Sprintf("SELECT 1 FROM %s LIMIT 0", t.name)
		if t.last != "" {
			sql = fmt.Sprintf("SELECT 1 FROM %s WHERE %s = %d", t.name, t.last, t.rows(size))
		}
		got, err := db.numbers(ctx, sql)
		switch {
		case undefinedTable(err):
			missing = append(missing, t.name)
		case err != nil:
			return false, err
		case t.last != "" && len(got) == 0:
			return false, fmt.Errorf("%s: %s is there, but has no row with %s %d: use a smaller --scale, or --reload to replace the tables",
				s.Name, t.name, t.last, t.rows(size))
		}
	}
	if n := len(missing); n > 0 && n < len(tables) {
		return false, fmt.Errorf("%s: %s is not there, but others of the tables are: --reload replaces them all", s.Name, strings.Join(missing, ", "))
	}
	return len(missing) == 0, nil
}

// tidy leaves nothing for the servers to do in the middle of a measurement.
func tidy(ctx context.Context, s *target.Store) error {
	for _, url := range servers(s) {
		db, err := connect(ctx, url)
		if err != nil {
			return err
		}
		err = db.exec(ctx, "VACUUM ANALYZE")
		if err == nil && s.Own {
			err = db.exec(ctx, "CHECKPOINT")
		}
		db.close()
		if err != nil && !refused(err) {
			return err
		}
	}
	return nil
}

// rows is COPY data that is made as it is read.
type rows struct {
	n, last int64
	row     func(dst []byte, n int64) []byte
	made    []byte
	rest    []byte // of made, not read yet
}

// Read returns rows until the last one.
func (r *rows) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if r.n == r.last {
			return 0, io.EOF
		}
		r.made = r.made[:0]
		for r.n < r.last && len(r.made) < 32<<10 {
			r.n++
			r.made = r.row(r.made, r.n)
		}
		r.rest = r.made
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// total adds up what queries of one row each give on all servers of a store: column by
// column, and query by query.
func total(ctx context.Context, s *target.Store, queries ...string) ([]int64, error) {
	var sums []int64
	for i, url := range servers(s) {
		n := 0
		for _, sql := range queries {
			err := each(ctx, url, sql, func(values [][]byte) error {
				list, err := numbersOf(values)
				for _, v := range list {
					if i == 0 {
						sums = append(sums, 0)
					}
					sums[n] += v
					n++
				}
				return err
			})
			if err != nil {
				if len(s.Servers) == 0 && refused(err) {
					return nil, fmt.Errorf("%w: %w", ErrUnchecked, err)
				}
				return nil, err
			}
		}
	}
	return sums, nil
}

// stillPrepared is the invariant that all data have.
func stillPrepared(n int64) []error {
	if n == 0 {
		return nil
	}
	return []error{fmt.Errorf("%d transactions are still prepared", n)}
}
