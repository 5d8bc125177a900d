// Package wire is the PostgreSQL v3 protocol as a proxy needs it: framing over
// a buffered connection, relaying without decoding, start-up, authentication,
// TLS, the messages that a gateway must read or write itself, and the catalogue
// of errors. It knows nothing of shards, plans or transactions.
//
// The governing idea: a message is looked at where it lies, in the read buffer
// of the connection it came from, and is copied only when it has to wait.
package wire
