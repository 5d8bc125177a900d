package exec

import (
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

// Origins say of which tables' columns a result's are, as a RowDescription does, and of
// which types: a whole row's is its table's. A cursor over rows that were brought
// together is one over other tables than the client's: it gets the origins that the
// client's own query has.
type Origins struct{ columns []origin }

type origin struct {
	table     uint32
	typ       uint32
	attribute int16
	modifier  int32
}

// origins fills an operation's Origins from the RowDescription at the head of c's
// input if the operation is hidden, and else puts them into it.
func (r *Runner) origins(op *Op, c *pool.Conn) error {
	body, err := c.Body()
	if err != nil {
		return err
	}
	if err := wire.DecodeRowDescription(body, &r.desc); err != nil {
		return err
	}
	d := &r.desc
	if op.Hidden {
		op.Origins.columns = nil
		for i := range d.Len() {
			op.Origins.columns = append(op.Origins.columns, origin{d.TableOID(i), d.TypeOID(i), d.Attribute(i), d.TypeModifier(i)})
		}
		return nil
	}
	if len(op.Origins.columns) != d.Len() {
		return nil
	}
	for i, o := range op.Origins.columns {
		d.SetTableOID(i, o.table)
		d.SetTypeOID(i, o.typ)
		d.SetAttribute(i, o.attribute)
		d.SetTypeModifier(i, o.modifier)
	}
	return nil
}
