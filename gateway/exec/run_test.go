package exec

import (
	"io"
	"net"
	"testing"

	"github.com/shardgate/shardgate/gateway/pool"
	"github.com/shardgate/shardgate/wire"
)

// A BEGIN that fails makes the server skip what was sent with it, up to a Sync: nobody waits
// for the answer of a Query, and the connection is not used any more.
func TestBeginFails(t *testing.T) {
	const most = 1 << 20
	near, far := net.Pipe()
	client, _ := net.Pipe()
	defer near.Close()
	go io.Copy(io.Discard, far)
	go far.Write(wire.Errorf(wire.QueryCanceled, "canceling statement due to user request").Append(nil))
	c := &pool.Conn{Conn: wire.NewConn(near, most), Shard: &pool.Shard{Name: "s1"}}
	r := &Runner{Client: wire.NewConn(client, most), Ends: func(*wire.Error) bool { return false }}

	c.SendBegin("BEGIN")
	r.Add(Op{Kind: Begin, Conn: c, Hidden: true})
	c.SendQuery("SELECT 1")
	r.Add(Op{Kind: Query, Conn: c})
	if err := r.Run(false); err != nil {
		t.Fatal(err)
	}
	if r.Failed == nil || r.Failed.Code != wire.QueryCanceled || !c.Broken {
		t.Errorf("failed with %v, broken is %v", r.Failed, c.Broken)
	}
}
