package exec

import (
	"maps"
	"slices"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

// param notes a ParameterStatus.
func (r *Runner) param(c *pool.Conn) error {
	body, err := c.Body()
	if err != nil {
		return err
	}
	return r.noteParam(c, body)
}

func (r *Runner) noteParam(c *pool.Conn, body []byte) error {
	name, value, err := wire.DecodeParameterStatus(body)
	if err != nil {
		return err
	}
	c.Params[string(name)] = string(value)
	r.Note(string(name), string(value))
	return nil
}

// Note notes the value that a setting has now, for the client to be told before
// the next ReadyForQuery.
func (r *Runner) Note(name, value string) {
	if r.Reported[name] == value {
		delete(r.changed, name)
		return
	}
	if r.changed == nil {
		r.changed = map[string]string{}
	}
	r.changed[name] = value
}

// Setting returns the value that a reported setting has now.
func (r *Runner) Setting(name string) (value string, ok bool) {
	if value, ok = r.changed[name]; !ok {
		value, ok = r.Reported[name]
	}
	return value, ok
}

// AppendChanged appends a ParameterStatus for each setting that has changed.
func (r *Runner) AppendChanged(dst []byte) []byte {
	if len(r.changed) == 0 {
		return dst
	}
	r.Reported = maps.Clone(r.Reported)
	for _, name := range slices.Sorted(maps.Keys(r.changed)) {
		dst = wire.AppendParameterStatus(dst, name, r.changed[name])
		r.Reported[name] = r.changed[name]
	}
	clear(r.changed)
	return dst
}

// translate puts the home shard's OIDs in the place of the shard's own in the
// RowDescription at the head of c's input.
func (r *Runner) translate(c *pool.Conn) error {
	m := r.oids(c)
	if m == nil {
		return nil
	}
	body, err := c.Body()
	if err != nil {
		return err
	}
	if err := wire.DecodeRowDescription(body, &r.desc); err != nil {
		return err
	}
	for i := range r.desc.Len() {
		if o, ok := m[r.desc.TypeOID(i)]; ok {
			r.desc.SetTypeOID(i, o)
		}
		if o, ok := m[r.desc.TableOID(i)]; ok {
			r.desc.SetTableOID(i, o)
		}
	}
	return nil
}

// translateParams does so in a ParameterDescription. types, if not nil, gets them.
func (r *Runner) translateParams(c *pool.Conn, types *[]uint32) error {
	m := r.oids(c)
	if m == nil && types == nil {
		return nil
	}
	body, err := c.Body()
	if err != nil {
		return err
	}
	d, err := wire.DecodeParameterDescription(body)
	if err != nil {
		return err
	}
	for i := range d.Len() {
		if o, ok := m[d.OID(i)]; ok {
			d.SetOID(i, o)
		}
		if types != nil {
			*types = append(*types, d.OID(i))
		}
	}
	return nil
}

func (r *Runner) oids(c *pool.Conn) map[uint32]uint32 {
	if r.OIDs == nil {
		return nil
	}
	return r.OIDs(c.Shard.Index)
}
