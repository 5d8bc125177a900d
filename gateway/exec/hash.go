package exec

import (
	"fmt"
	"strconv"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// HashByShard computes the hash of a value on a shard. The value is read as type
// from (0: the key's own), and converted to the key's type with its modifier.
func HashByShard(c *pool.Conn, t shardmap.KeyType, typmod int32, value []byte, binary bool, from uint32) (uint64, *wire.Error) {
	source := t
	if o, ok := shardmap.KeyTypeOfOID(from); ok {
		source = o
	}
	expr := "CAST($1 AS " + modified(t, typmod) + ")"
	format := int16(wire.FormatText)
	if binary {
		format = wire.FormatBinary
	}
	sendHash(c, t.HashSQL(expr), source.OID(), format, value)
	res, e := readOwn(c)
	if e != nil {
		return 0, e
	}
	h, err := strconv.ParseInt(res.Value(0), 10, 64)
	if err != nil {
		return 0, wire.Errorf(wire.InternalError, "a shard gave no hash for the key")
	}
	return uint64(h), nil
}

// HashSQLByShard computes the hash of an expression's value on a shard, as that of a
// value of a key's type.
func HashSQLByShard(c *pool.Conn, t shardmap.KeyType, typmod int32, expr []byte) (h uint64, null bool, err *wire.Error) {
	wide := t
	if typmod < 0 && (t == shardmap.KeyInt2 || t == shardmap.KeyInt4) {
		wide = shardmap.KeyInt8 // a value that no row has is no error
	}
	c.SendQuery("SELECT " + wide.HashSQL("CAST(("+string(expr)+") AS "+modified(wide, typmod)+")"))
	res, err := readOwn(c)
	if err != nil {
		return 0, false, err
	}
	if len(res.Rows) == 1 && res.Rows[0][0] == nil {
		return 0, true, nil
	}
	n, bad := strconv.ParseInt(res.Value(0), 10, 64)
	if bad != nil {
		return 0, false, wire.Errorf(wire.InternalError, "a shard gave no hash for the key")
	}
	return uint64(n), false, nil
}

// TextValue computes an expression's value as text, nil for NULL. bind has its parameters,
// of these types; nil if there are none.
func TextValue(c *pool.Conn, expr []byte, types []uint32, bind *wire.Bind) ([]byte, *wire.Error) {
	sql := "SELECT (" + string(expr) + ")::pg_catalog.text"
	if bind == nil {
		c.SendQuery(sql)
	} else {
		pick := make([]int, len(types))
		for i := range pick {
			pick[i] = i
		}
		c.SendParse([]byte(sql), types)
		c.SetOut(wire.AppendSelected(c.Out(), "", "", bind, pick, []int16{wire.FormatText}))
		c.SetOut(wire.AppendExecute(c.Out(), "", 0))
		c.SendSync()
	}
	res, err := readOwn(c)
	switch {
	case err != nil:
		return nil, err
	case len(res.Rows) != 1 || len(res.Rows[0]) != 1:
		return nil, wire.Errorf(wire.InternalError, "a shard gave no value for an expression")
	}
	return res.Rows[0][0], nil
}

// modified is a type's name with its modifier.
func modified(t shardmap.KeyType, typmod int32) string {
	name := t.SQLName()
	switch {
	case typmod < 0:
		return name
	case t == shardmap.KeyVarchar || t == shardmap.KeyBpchar:
		return fmt.Sprintf("%s(%d)", name, typmod-4)
	case t == shardmap.KeyTimestamp:
		return fmt.Sprintf("timestamp(%d)", typmod)
	case t == shardmap.KeyTimestamptz:
		return fmt.Sprintf("timestamptz(%d)", typmod)
	}
	return name
}

// sendHash sends an expression over one parameter, whose value comes as text.
func sendHash(c *pool.Conn, expr string, param uint32, format int16, value []byte) {
	c.SendParse([]byte("SELECT "+expr), []uint32{param})
	c.SetOut(wire.AppendBind(c.Out(), "", "", []int16{format}, [][]byte{value}, []int16{wire.FormatText}))
	c.SetOut(wire.AppendExecute(c.Out(), "", 0))
	c.SendSync()
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
