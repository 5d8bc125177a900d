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
// value of a key's type. bind has its parameters, of these types; there are none where it
// has no types.
func HashSQLByShard(c *pool.Conn, t shardmap.KeyType, typmod int32, expr []byte, types []uint32, bind *wire.Bind) (h uint64, null bool, err *wire.Error) {
	wide := t
	if typmod < 0 && (t == shardmap.KeyInt2 || t == shardmap.KeyInt4) {
		wide = shardmap.KeyInt8 // a value that no row has is no error
	}
	sendWithParams(c, "SELECT "+wide.HashSQL("CAST(("+string(expr)+") AS "+modified(wide, typmod)+")"), types, bind)
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

// HashesByShard computes the hashes of the values of an array, in their order, on a
// shard, as HashByShard does.
func HashesByShard(c *pool.Conn, t shardmap.KeyType, typmod int32, arrayType uint32, array []byte) (*pool.Result, *wire.Error) {
	expr := t.HashSQL("CAST(v AS "+modified(t, typmod)+")") + " FROM pg_catalog.unnest($1) AS _(v)"
	sendHash(c, expr, arrayType, wire.FormatBinary, array)
	return readOwn(c)
}
