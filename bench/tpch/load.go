package tpch

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Schema makes the tables, and Indexes what is best made when they are full.
var (
	//go:embed schema.sql
	Schema string
	//go:embed indexes.sql
	Indexes string
)

// Distribution has the rules for the tables, as a part of a gateway's configuration.
//
//go:embed distribution.yaml
var Distribution []byte

// Load makes the tables, fills them, and leaves nothing for the server to do later. It
// fails if one of them is there already. The URL is that of a gateway, or of any
// PostgreSQL.
func Load(ctx context.Context, url string, d *Data) error {
	conn, err := pgconn.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer stop()
		conn.Close(ctx) // the socket is closed in any case
	}()
	if _, err := conn.Exec(ctx, Schema).ReadAll(); err != nil {
		return fmt.Errorf("making the tables: %w", err)
	}
	for _, t := range Tables {
		if _, err := conn.CopyFrom(ctx, d.Rows(t), "COPY "+t.Name+" FROM STDIN"); err != nil {
			return fmt.Errorf("filling %s: %w", t.Name, err)
		}
	}
	if _, err := conn.Exec(ctx, Indexes).ReadAll(); err != nil {
		return fmt.Errorf("making the indexes: %w", err)
	}
	for _, t := range Tables {
		if _, err := conn.Exec(ctx, "VACUUM ANALYZE "+t.Name).ReadAll(); err != nil {
			return fmt.Errorf("tidying %s: %w", t.Name, err)
		}
	}
	return nil
}
