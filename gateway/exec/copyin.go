package exec

import (
	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

// copyChunkBytes is how much COPY data is collected for a shard before it is sent.
const copyChunkBytes = 32 << 10

// copyIn takes COPY data from the client until it ends or fails, and then reads
// the shards' answers. All of conns wait for data.
func (r *Runner) copyIn(op *Op, conns []*pool.Conn) {
	extended := op.Kind == Execute
	if extended {
		// The Sync that was sent ahead is ignored by a server that waits for
		// data: it has to be sent again.
		r.Copied = true
		for _, c := range conns {
			c.Ready--
		}
	}
	r.endRelay(false)
	if err := r.Client.Flush(); err != nil {
		r.stop = err
	}
	pump := copyPump{r: r, op: op, conns: conns, rows: make([][]byte, len(conns))}
	why := ""
	if r.stop == nil {
		why = pump.run()
	}
	if r.stop != nil {
		why = "the client is gone"
	}
	for i, c := range conns {
		if c.Broken {
			continue
		}
		if why == "" {
			pump.send(i)
			c.SetOut(wire.AppendCopyDone(c.Out()))
		} else {
			c.SetOut(wire.AppendCopyFail(c.Out(), why))
		}
		if extended {
			c.SendSync()
		}
		if err := c.Flush(); err != nil {
			c.Fail(err)
		}
	}
	if pump.err != nil {
		r.fail(pump.err)
	}
	if r.Failed != nil || r.stop != nil {
		return
	}
	r.Tag = Tag{}
	for i, c := range conns {
		if r.answer(op, c, i, false) == failed {
			return
		}
	}
}

// copyPump is one COPY FROM STDIN under way.
type copyPump struct {
	r     *Runner
	op    *Op
	conns []*pool.Conn
	rows  [][]byte // what waits for each shard
	err   *wire.Error
}

// run reads the client's messages up to CopyDone or CopyFail. It returns why the
// data is to be thrown away, or "".
func (p *copyPump) run() (why string) {
	for {
		m, err := p.r.Client.Read()
		if err != nil {
			p.r.stop = err
			return ""
		}
		body := m[5:]
		switch m[0] {
		case 'd':
			if why != "" {
				continue // after an error, data is read and thrown away
			}
			if p.err = p.data(body); p.err != nil {
				why = p.err.Message
			}
		case 'c':
			if why == "" && p.op.Copy != nil {
				if p.err = p.op.Copy.end(p.row); p.err != nil {
					why = p.err.Message
				}
			}
			return why
		case 'f':
			if why == "" {
				reason, _ := wire.DecodeQuery(body)
				why = string(reason)
			}
			return why
		case 'H', 'S':
			// Flush and Sync are ignored during COPY, as PostgreSQL does.
		default:
			p.err = wire.Errorf(wire.ProtocolViolation, "unexpected message type 0x%02X during COPY from stdin", m[0])
			p.r.stop = wire.Fatalf(wire.ProtocolViolation, "terminating connection because protocol synchronization was lost")
			return p.err.Message
		}
	}
}

// data passes CopyData on: as it is, or divided by rows.
func (p *copyPump) data(b []byte) *wire.Error {
	if p.op.Copy != nil {
		return p.op.Copy.split(b, p.row)
	}
	for i := range p.conns {
		if e := p.append(i, b); e != nil {
			return e
		}
	}
	return nil
}

// row gives a row, with its line end, to a shard, or to all where target < 0.
func (p *copyPump) row(target int, line []byte) *wire.Error {
	if target >= 0 {
		return p.append(target, line)
	}
	for i := range p.conns {
		if e := p.append(i, line); e != nil {
			return e
		}
	}
	return nil
}

func (p *copyPump) append(i int, b []byte) *wire.Error {
	p.rows[i] = append(p.rows[i], b...)
	if len(p.rows[i]) < copyChunkBytes {
		return nil
	}
	return p.send(i)
}

// send sends what waits for a shard as one CopyData.
func (p *copyPump) send(i int) *wire.Error {
	b := p.rows[i]
	if len(b) == 0 {
		return nil
	}
	c := p.conns[i]
	c.SetOut(wire.AppendCopyDataHeader(c.Out(), len(b)))
	err := c.Write(b)
	if err == nil {
		err = c.Flush()
	}
	p.rows[i] = b[:0]
	if err != nil {
		return c.Fail(err).(*pool.Lost).Wire()
	}
	return nil
}
