package txn

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"

	"github.com/shardgate/shardgate/gateway/pool"
)

// proof shows the functions of the schema shardgate that a gateway calls them. It
// is made of the cluster's token, which never leaves the gateway, and of all that
// the call does: whoever sees it in pg_stat_activity, in a log or by
// current_query() in a trigger can at most repeat that very call, on that very
// backend. The construction is HMAC's, with PostgreSQL's sha256(): both keys have
// the same length, so that the paddings add nothing. shardgate.prove is its
// other half.
func (r *Register) proof(message string) string {
	inner := sha256.Sum256([]byte(r.token + message))
	outer := sha256.Sum256(append([]byte(r.token), inner[:]...))
	return hex.EncodeToString(outer[:])
}

// pid is the connection's backend, to which a proof is bound.
func pid(c *pool.Conn) string { return strconv.FormatUint(uint64(c.PID), 10) }

// fenceCall takes the fence in the transaction of c's; name makes the proof good for
// that one alone. Neither holds a quote.
func (r *Register) fenceCall(c *pool.Conn, name string) string {
	return "SELECT shardgate.fence('" + name + "', '" + r.proof("fence "+pid(c)+" "+name) + "')"
}

// decideCall writes the decision to commit txid, which is prepared on the shards that
// unfinished names. backend is c's.
func (r *Register) decideCall(c *pool.Conn, txid, backend, unfinished string) string {
	return "SELECT shardgate.decide_commit('" + txid + "', '" + backend + "', '" + unfinished + "', '" +
		r.proof("decide "+pid(c)+" "+txid+" "+backend+" "+unfinished) + "')"
}

// SchemaChangedCall raises the schema's version in the transaction on c, a
// connection to the home shard.
func (r *Register) SchemaChangedCall(c *pool.Conn) string {
	nonce := randomHex(16)
	return "SELECT shardgate.schema_changed('" + nonce + "', '" + r.proof("schema "+pid(c)+" "+nonce) + "')"
}
