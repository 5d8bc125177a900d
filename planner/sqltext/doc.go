// Package sqltext reads the text of SQL statements as PostgreSQL's lexer does, without parsing them.
//
// It gives a statement's key (its text without the values of its literals) for the plan cache, the
// position and the value of each literal, the ends of tokens for splices, and a guard that keeps texts
// from PostgreSQL's grammar that would overflow its stack. It knows no grammar, no names and no types.
//
// The governing idea: the rules are those of src/backend/parser/scan.l of PostgreSQL 17 with
// standard_conforming_strings on, in an encoding where no byte below 0x80 is part of a longer character
// (true of every server encoding, not of client encodings such as SJIS). Older servers refuse some of what
// it reads (1_000, 0x1F), as they refuse it from anyone. What the lexer can't read is an error value; whoever gets one asks
// the real parser for PostgreSQL's own message.
package sqltext
