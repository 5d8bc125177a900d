// Package planner turns a statement, a snapshot of the schema and the number of shards
// into a plan or a refusal. It is pure: no I/O, no clock, no context; the same input gives
// the same plan. It does not know connections, sessions or rows, and it never rewrites SQL
// by deparsing a tree: what a shard is sent is the client's text, or pieces of it.
//
// The governing idea: a statement may run on one shard when leaving out every row of every
// other shard can't change its answer, and on all shards when the answers are disjoint
// parts of the whole. For one that is neither, the rows that it needs are brought together,
// and PostgreSQL runs it there. What has no exact plan is refused, with the reason.
//
// # Reading order
//
// In and out. plan.go has the plans, and render.go writes them as text; schema.go is what is
// known of tables and functions. cache.go has Planner, which keeps plans, and planner.go
// goes from a text to a plan.
//
// What a statement is about. analyze.go walks its tree, and statement.go has what statements
// of all kinds have in common. What names mean is in scope.go, from.go, output.go, derived.go
// and colname.go; what conditions say of columns in facts.go, with the values in value.go,
// computed.go and types.go; what functions do to where it may run in functions.go, shared.go,
// clock.go, instant.go and timed.go.
//
// On one shard, or on each for its own rows. route.go decides, select.go plans SELECT,
// keyed.go sees whether groups are whole on a shard, and ordered.go merges sorted answers.
//
// By rows that are brought together. gather.go goes through the queries of block.go.
// combine.go begins with each on the shards, as far as divide.go, replace.go, partial.go,
// limit.go and locks.go let it; dependent.go and collation.go keep what rows don't carry,
// and semijoin.go has fewer of them come. rows.go is about COPY and DECLARE of such a query,
// and view.go puts the definitions of views in the place of their names.
//
// The text for all that is cut from the client's: sql.go makes it of pieces, span.go and
// text.go find where they begin and end.
//
// Changes of rows. dml.go plans INSERT of rows, UPDATE and DELETE, and move.go an UPDATE of
// the key; change.go, with once.go, what is changed by rows from elsewhere, and copies.go
// what one copy of a reference table is changed by for all; given.go has the defaults that
// rows are given, insertselect.go and createas.go what stores the rows of a query; merge.go
// MERGE; copy.go COPY. with.go is about WITH that changes rows, and steps.go, stepsafe.go
// and stepcollation.go run one statement as several.
//
// The rest. ddl.go, createtable.go, altertable.go and constraints.go plan changes of the
// schema, utility.go what is about the session or a server, prepare.go PREPARE and EXECUTE,
// explain.go EXPLAIN, and asked.go has what the gateway answers by itself.
package planner
