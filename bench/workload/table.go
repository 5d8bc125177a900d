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
	columns string // that are filled, and that tell the table from somebody else's of the same name
	// rows is how many there are, and row makes the n-th one, from 1, in COPY's text format.
	// Without them the table begins empty.
	rows func(Size) int64
	row  func(dst []byte, n int64) []byte
	// after is run when the table is full, such as to make its keys.
	after string
	// last selects the last row, $1; "": any row is enough.
	last string
}

// fillTables makes and fills tables, one after the other: the last one is there and filled
// only if all are.
func fillTables(ctx context.Context, url string, size Size, tables []table) error {
	db, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer db.close()
	for _, t := range tables {
		if err := db.exec(ctx, fmt.Sprintf("CREATE TABLE %s (%s)", t.name, t.create)); err != nil {
			return err
		}
		if t.rows != nil {
			if err := db.copyIn(ctx, fmt.Sprintf("COPY %s (%s) FROM STDIN", t.name, t.columns), &rows{last: t.rows(size), row: t.row}); err != nil {
				return err
			}
		}
		if t.after != "" {
			if err := db.exec(ctx, t.after); err != nil {
				return err
			}
		}
	}
	return nil
}

// dropTables drops those that are there, or none of them if one is not the benchmark's.
func dropTables(ctx context.Context, url string, tables []table) error {
	db, err := connect(ctx, url)
	if err != nil {
		return err
	}
	defer db.close()
	for _, t := range tables {
		if _, err := t.probe(ctx, db, ""); err != nil && !undefinedTable(err) {
			return err
		}
	}
	for _, t := range tables {
		if err := db.exec(ctx, "DROP TABLE IF EXISTS "+t.name); err != nil {
			return err
		}
	}
	return nil
}

// probe says whether the table has a row that fits a condition. That it has not the
// columns that the benchmark makes is an error.
func (t table) probe(ctx context.Context, db *database, where string) (found bool, err error) {
	err = db.each(ctx, fmt.Sprintf("SELECT %s FROM %s %s LIMIT 1", t.columns, t.name, where), func([][]byte) error {
		found = true
		return nil
	})
	if hasCode(err, "42703") {
		err = fmt.Errorf("the table %s that is there is not the benchmark's: use another database, or rename it: %w", t.name, err)
	}
	return found, err
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
		where := ""
		if t.last != "" {
			where = fmt.Sprintf("WHERE %s = %d", t.last, t.rows(size))
		}
		found, err := t.probe(ctx, db, where)
		switch {
		case undefinedTable(err):
			missing = append(missing, t.name)
		case err != nil:
			return false, err
		case found || t.rows == nil:
		case t.last == "":
			return false, fmt.Errorf("%s is there, but empty: --reload drops the tables of the benchmark and makes them anew", t.name)
		default:
			return false, fmt.Errorf("%s is there, but has no row with %s %d: use a smaller --scale, or --reload to drop the tables of the benchmark and make them anew",
				t.name, t.last, t.rows(size))
		}
	}
	if n := len(missing); n > 0 && n < len(tables) {
		return false, fmt.Errorf("%s is not there, but others of the tables are: if they are the benchmark's, --reload drops them and makes all anew; else use another database", strings.Join(missing, ", "))
	}
	return len(missing) == 0, nil
}

// tidy leaves nothing for the servers to do in the middle of a measurement.
func tidy(ctx context.Context, s *target.Store, tables []table) error {
	var names []string
	for _, t := range tables {
		names = append(names, t.name)
	}
	for _, url := range servers(s) {
		db, err := connect(ctx, url)
		if err != nil {
			return err
		}
		err = db.exec(ctx, "VACUUM ANALYZE "+strings.Join(names, ", "))
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
