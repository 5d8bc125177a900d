// Package difftest holds the gateway against its rule: the answer of a sharded
// cluster is that of one PostgreSQL with all the rows, or the statement is refused
// with SQLSTATE 0A000.
//
// The same rows are in a plain PostgreSQL and behind a gateway. Random statements,
// and a list of traps in testdata/traps.sql, run on both by the simple and the
// extended protocol, in text and in binary; columns, types, rows and SQLSTATEs must
// be equal. What is refused is counted by its reason. Statements that change rows are run
// in a block, and the tables are compared before it is rolled back.
//
// The governing idea: nothing is expected by hand, PostgreSQL is asked. So the
// generator avoids what PostgreSQL itself leaves to the plan, such as the order of
// an array_agg without ORDER BY.
package difftest
