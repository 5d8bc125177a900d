package exec

import (
	"encoding/binary"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

// Nesting says of the types whose values in binary have OIDs of types in them, by
// the home shard's OIDs, where these are: 'a' in an array's header, 'r' before each
// column of a composite value.
type Nesting map[uint32]byte

// of returns a type's kind, 0 where there is no OID in its values.
func (n Nesting) of(oid uint32) byte {
	switch oid {
	case recordOID:
		return 'r'
	case recordArrayOID:
		return 'a'
	}
	return n[oid]
}

// Any says whether values of one of the types have OIDs in them.
func (n Nesting) Any(types []uint32) bool {
	for _, t := range types {
		if t >= recordOID && n.of(t) != 0 {
			return true
		}
	}
	return false
}

// Anonymous composite types, by pg_type.dat.
const (
	recordOID      = 2249
	recordArrayOID = 2287
)

// Columns are the columns of a portal's result as far as their values have to be
// looked into. The answer to a Describe of the portal fills it.
type Columns struct {
	kinds []byte // by column, 0 for nothing; empty when there is nothing in any
}

// Plain says that no value has an OID in it.
func (c *Columns) Plain() bool { return len(c.kinds) == 0 }

// describe notes the columns of the RowDescription at the head of c's input,
// which has the shard's own OIDs still.
func (r *Runner) describe(c *pool.Conn, cols *Columns) error {
	cols.kinds = cols.kinds[:0]
	body, err := c.Body()
	if err != nil {
		return err
	}
	if err := wire.DecodeRowDescription(body, &r.desc); err != nil {
		return err
	}
	m := r.oids(c)
	found := false
	for i := range r.desc.Len() {
		kind := byte(0)
		if r.desc.Format(i) == wire.FormatBinary {
			kind = r.Nesting().of(translated(m, r.desc.TypeOID(i)))
		}
		found = found || kind != 0
		cols.kinds = append(cols.kinds, kind)
	}
	if !found {
		cols.kinds = cols.kinds[:0]
	}
	return nil
}

func translated(m map[uint32]uint32, oid uint32) uint32 {
	if o, ok := m[oid]; ok {
		return o
	}
	return oid
}

// translateRow puts the home shard's OIDs into the DataRow at the head of c's input.
func (r *Runner) translateRow(c *pool.Conn, cols *Columns) error {
	if r.oids(c) == nil {
		return nil
	}
	body, err := c.Body()
	if err == nil {
		r.translateValues(c, body, cols)
	}
	return err
}

// translateValues puts the home shard's OIDs into the body of a DataRow of c's.
func (r *Runner) translateValues(c *pool.Conn, body []byte, cols *Columns) {
	m := r.oids(c)
	if m == nil {
		return
	}
	v := values{m: m, home: m, nesting: r.Nesting()}
	rest := body[min(2, len(body)):]
	for _, kind := range cols.kinds {
		rest = v.next(rest, kind)
	}
}

// TranslateParams puts a shard's own OIDs into the binary parameters of the Bind
// whose body is given. types are the client's, own translates from them.
func TranslateParams(body []byte, types []uint32, own map[uint32]uint32, n Nesting) error {
	var b wire.Bind
	if err := wire.DecodeBind(body, &b); err != nil {
		return err
	}
	v := values{m: own, nesting: n}
	for i := range b.Params {
		if i >= len(types) || b.ParamFormat(i) != wire.FormatBinary {
			continue
		}
		if p, null := b.Param(i); !null {
			v.value(p, n.of(types[i]))
		}
	}
	return nil
}

// values translates the OIDs within binary values, in place. What is not as
// array_send and record_send in PostgreSQL write it is left as it is: PostgreSQL
// refuses it.
type values struct {
	m       map[uint32]uint32
	home    map[uint32]uint32 // to the home shard's OIDs; nil where the values have these before
	nesting Nesting
}

// oid translates the OID at the head of b, and returns the kind of its type.
func (v *values) oid(b []byte) byte {
	was := binary.BigEndian.Uint32(b)
	binary.BigEndian.PutUint32(b, translated(v.m, was))
	return v.nesting.of(translated(v.home, was))
}

// next translates a value with its length word at the head of b, and returns what
// follows it.
func (v *values) next(b []byte, kind byte) []byte {
	if len(b) < 4 {
		return nil
	}
	n := int(int32(binary.BigEndian.Uint32(b)))
	b = b[4:]
	if n < 0 {
		return b
	}
	n = min(n, len(b))
	v.value(b[:n], kind)
	return b[n:]
}

func (v *values) value(b []byte, kind byte) {
	switch {
	case kind == 'a' && len(b) >= 12: // dimensions, flags, type, bounds of each dimension, elements
		dimensions := int(binary.BigEndian.Uint32(b))
		element := v.oid(b[8:])
		if dimensions > 6 { // MAXDIM
			return
		}
		for rest := b[min(12+8*dimensions, len(b)):]; element != 0 && len(rest) > 0; {
			rest = v.next(rest, element)
		}
	case kind == 'r' && len(b) >= 4: // columns, then type and value of each
		for rest := b[4:]; len(rest) >= 8; {
			column := v.oid(rest)
			rest = v.next(rest[4:], column)
		}
	}
}
