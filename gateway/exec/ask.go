package exec

import (
	"strconv"
	"strings"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

// What the gateway asks a shard for itself.

func readResult(c *pool.Conn) (*pool.Result, *wire.Error) {
	if err := c.Flush(); err != nil {
		return nil, asLost(c.Fail(err))
	}
	res, err := c.ReadResult()
	if err != nil {
		return nil, asLost(err)
	}
	return res, nil
}

// asLost is an error of a connection as the client is told of it.
func asLost(err error) *wire.Error {
	if lost, ok := err.(*pool.Lost); ok {
		return lost.Wire()
	}
	return wire.AsError(err)
}

// readOwn is readResult of a statement of the gateway's own: where in its text an error is
// means nothing to the client.
func readOwn(c *pool.Conn) (*pool.Result, *wire.Error) {
	res, err := readResult(c)
	if err != nil {
		return nil, err.WithPosition(0)
	}
	return res, nil
}

// TextValue computes an expression's value as text, nil for NULL. bind has its parameters,
// of these types; nil if there are none.
func TextValue(c *pool.Conn, expr []byte, types []uint32, bind *wire.Bind) ([]byte, *wire.Error) {
	sendWithParams(c, "SELECT ("+string(expr)+")::pg_catalog.text", types, bind)
	res, err := readOwn(c)
	switch {
	case err != nil:
		return nil, err
	case len(res.Rows) != 1 || len(res.Rows[0]) != 1:
		return nil, wire.Errorf(wire.InternalError, "a shard gave no value for an expression")
	}
	return res.Rows[0][0], nil
}

// sendWithParams sends a query with the first parameters of a Bind, of these types.
func sendWithParams(c *pool.Conn, sql string, types []uint32, bind *wire.Bind) {
	if bind == nil || len(types) == 0 {
		c.SendQuery(sql)
		return
	}
	pick := make([]int, len(types))
	for i := range pick {
		pick[i] = i
	}
	c.SendParse([]byte(sql), types)
	c.SetOut(wire.AppendSelected(c.Out(), "", "", bind, pick, []int16{wire.FormatText}))
	c.SetOut(wire.AppendExecute(c.Out(), "", 0))
	c.SendSync()
}

// ParameterTypes asks a shard which types it gives a statement's parameters.
func ParameterTypes(c *pool.Conn, text []byte, oids []uint32) ([]uint32, *wire.Error) {
	c.SendParse(text, oids)
	c.SetOut(wire.AppendDescribe(c.Out(), wire.Statement, ""))
	c.SendSync()
	if err := c.Flush(); err != nil {
		return nil, c.Fail(err).(*pool.Lost).Wire()
	}
	var types []uint32
	var failed *wire.Error
	for c.Ready > 0 {
		m, err := c.Read()
		if err != nil {
			return nil, c.Fail(err).(*pool.Lost).Wire()
		}
		switch m[0] {
		case 't':
			d, err := wire.DecodeParameterDescription(m[5:])
			if err != nil {
				return nil, c.Fail(err).(*pool.Lost).Wire()
			}
			types = make([]uint32, d.Len())
			for i := range types {
				types[i] = d.OID(i)
			}
		case 'E':
			e, err := wire.ParseError(m[5:])
			if err != nil {
				return nil, c.Fail(err).(*pool.Lost).Wire()
			}
			failed = e
		case 'Z':
			c.Ready--
			c.Status = m[5]
		}
	}
	return types, failed
}

// What a shard is asked about PREPARE and EXECUTE has these names there for a moment.
const (
	prepareNew = "PREPARE shardgate_new"
	executeNew = "EXECUTE shardgate_new"
	nameNew    = "shardgate_new"
)

// PreparedTypes has a shard carry out a PREPARE, whose text behind the name is given, and say
// which types its parameters have; nothing is left of it. A position in the error is in that text.
func PreparedTypes(c *pool.Conn, behindName string) ([]uint32, *wire.Error) {
	c.SendQuery(prepareNew + behindName)
	if _, err := readResult(c); err != nil {
		return nil, err.WithPosition(behind(err.Position, prepareNew))
	}
	c.SendQuery("SELECT pg_catalog.unnest(parameter_types)::pg_catalog.oid FROM pg_catalog.pg_prepared_statements WHERE name = '" + nameNew + "'")
	c.SendQuery("DEALLOCATE " + nameNew)
	res, err := readOwn(c)
	if _, e := readOwn(c); err == nil {
		err = e
	}
	if err != nil {
		c.Tainted = true
		return nil, err
	}
	types := []uint32{}
	for _, row := range res.Rows {
		n, _ := strconv.ParseUint(string(row[0]), 10, 32)
		types = append(types, uint32(n))
	}
	return types, nil
}

// Arguments has a shard compute the arguments of an EXECUTE, whose text behind the name is
// given, as values of these types. They are in binary. A position in the error is in that text.
func Arguments(c *pool.Conn, behindName string, types []uint32) ([][]byte, *wire.Error) {
	var values []string
	for i := range types {
		values = append(values, "$"+strconv.Itoa(i+1))
	}
	c.SetOut(wire.AppendParse(c.Out(), nameNew, []byte("SELECT "+strings.Join(values, ",")), types))
	c.SendParse([]byte(executeNew+behindName), nil)
	c.SetOut(wire.AppendBind(c.Out(), "", "", nil, nil, []int16{wire.FormatBinary}))
	c.SetOut(wire.AppendExecute(c.Out(), "", 0))
	c.SendSync()
	c.SetOut(wire.AppendClose(c.Out(), wire.Statement, nameNew))
	c.SendSync()
	res, err := readResult(c)
	if _, e := readOwn(c); e != nil {
		c.Tainted = true
	}
	switch {
	case err != nil:
		return nil, err.WithPosition(behind(err.Position, executeNew))
	case len(res.Rows) != 1 || len(res.Rows[0]) != len(types):
		return nil, wire.Errorf(wire.InternalError, "a shard gave no values for the arguments")
	}
	return res.Rows[0], nil
}

// behind is a position in a text without what it begins with.
func behind(position int32, beginning string) int32 {
	return max(0, position-int32(len(beginning)))
}

// DefaultValues has a shard compute an expression so many times, as text; nil for NULL.
func DefaultValues(c *pool.Conn, expr string, times int) ([][]byte, *wire.Error) {
	c.SendQuery("SELECT (" + expr + ")::pg_catalog.text FROM pg_catalog.generate_series(1, " + strconv.Itoa(times) + ")")
	res, err := readOwn(c)
	if err != nil {
		return nil, err
	}
	var out [][]byte
	for _, row := range res.Rows {
		out = append(out, row[0])
	}
	if len(out) != times {
		return nil, wire.Errorf(wire.InternalError, "a shard gave %d values for %d rows", len(out), times)
	}
	return out, nil
}
