// Package shardmap says which row lives where: a key's values are hashed, the
// hash's low bits are a slot, and a versioned table says which shard holds the
// slot.
//
// The hashes are PostgreSQL's own extended hashes with seed 0, computed here bit
// for bit, so that a shard can evaluate the same rule in SQL ([SlotSQL]). Where
// Go can't be certain to read a value exactly as PostgreSQL does, it says so and
// the caller asks a shard.
//
// The package does no I/O and knows neither tables nor addresses. A [Map] is
// immutable: a statement takes one and keeps it.
package shardmap
