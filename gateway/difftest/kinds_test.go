package difftest

import "strings"

// kind is a type as the generator distinguishes them: by what may be done with a
// value without an error, and without an answer that PostgreSQL leaves open. Its
// name stands in the templates of operations.
type kind string

// kindInfo describes a kind.
type kindInfo struct {
	// name is the SQL type, for casts.
	name string
	// literals are values, as text; those of columns are tried as well.
	literals []string
	// compares says that equal values look alike and that there is an order, so that
	// the kind may be grouped and sorted by, and be a column of a set operation.
	compares bool
}

var kinds = map[kind]kindInfo{
	"int2": {"int2", []string{"0", "1", "20", "-1"}, true},
	"int4": {"int4", []string{"0", "1", "7", "-3", "50"}, true},
	"int8": {"int8", []string{"1", "0", "-3", "10", "100"}, true},
	// big is int8 with values near the type's bounds: no arithmetic.
	"big": {"int8", []string{"0", "9223372036854775807", "-9223372036854775808"}, true},
	// Numerics by their scale.
	"num0": {"numeric", []string{"0", "5", "-12", "NaN"}, true},
	"num2": {"numeric(12,2)", []string{"1.50", "0.00", "-3.25", "NaN"}, true},
	"num3": {"numeric", []string{"1.500", "0.125", "-37.500", "NaN", "Infinity"}, true},
	// ratio is a numeric whose scale depends on how it was come by.
	"ratio": {"numeric", []string{"1.5", "20"}, false},
	"f4":    {"float4", []string{"0.5", "2", "-3.5"}, true},
	"f8":    {"float8", []string{"0.5", "2", "-1.25", "NaN", "Infinity"}, true},
	// approx is a float8 whose last digits depend on the order of rows: nothing but
	// an output.
	"approx": {"float8", []string{"1"}, false},
	"text":   {"text", []string{"", "a", "Ada", "sku-1", "zoë", "b%", "O'Neill"}, true},
	// char is of one length: of different ones, values that are equal look otherwise.
	"char": {"bpchar(2)", []string{"de", "b", "xx"}, true},
	// Text with a collation; two different ones can't be compared.
	"textc":   {"text", []string{"", "Bolt", "nut"}, true},
	"texticu": {"text", []string{"", "apple", "Äpfel", "zebra"}, true},
	"bool":    {"bool", []string{"true", "false"}, true},
	"date":    {"date", []string{"2024-01-01", "1990-05-05", "2024-02-29"}, true},
	"ts":      {"timestamp", []string{"2024-02-29 00:00:00", "2024-03-01 12:30:00", "infinity"}, true},
	"tstz":    {"timestamptz", []string{"2024-03-10 02:30:00-05", "2024-01-01 00:00:00+00", "-infinity"}, true},
	"time":    {"time", []string{"08:30:00", "23:59:59.5"}, true},
	"iv":      {"interval", []string{"01:00:00", "-00:45:00"}, true},
	"uuid":    {"uuid", []string{"c4ca4238-a0b9-2382-0dcc-509a6f75849b", "00000000-0000-0000-0000-000000000000"}, true},
	"bytea":   {"bytea", []string{`\x00`, `\x616263`, `\x`}, true},
	"jsonb":   {"jsonb", []string{"{}", `{"a": 1}`, `[1, "x"]`, "null"}, true},
	// json has no equality.
	"json":  {"json", []string{"{}", "[1, 2]"}, false},
	"ints":  {"int4[]", []string{"{}", "{1,2}", "{3,NULL}"}, true},
	"texts": {"text[]", []string{"{}", "{a,b}", `{"",NULL}`}, true},
	"mood":  {"mood", []string{"sad", "ok", "happy"}, true},
	// other is for what is only put out.
	"other": {"text", []string{""}, false},
}

// columnKinds are those of columns, and so those that a query may be asked for; the
// simplest come first.
var columnKinds = []kind{"int4", "text", "int8", "bool", "num2", "f8", "date", "int2", "char", "big", "num3", "f4", "textc", "texticu", "ts", "tstz", "time", "iv",
	"uuid", "bytea", "jsonb", "ints", "texts", "mood"}

// catalog is the type's name in pg_type.
func (i kindInfo) catalog() string {
	name, _, _ := strings.Cut(i.name, "(")
	if element, ok := strings.CutSuffix(name, "[]"); ok {
		return "_" + element
	}
	return name
}

// kindOf is the kind of a table's column.
func kindOf(name, sqlType, collation string) kind {
	switch {
	case name == "big":
		return "big"
	case collation == "C":
		return "textc"
	case collation != "":
		return "texticu"
	}
	switch base, _, _ := strings.Cut(sqlType, "("); base {
	case "smallint":
		return "int2"
	case "integer":
		return "int4"
	case "bigint":
		return "int8"
	case "numeric":
		if sqlType == "numeric" {
			return "num3"
		}
		return "num2"
	case "real":
		return "f4"
	case "double precision":
		return "f8"
	case "character":
		return "char"
	case "character varying", "text":
		return "text"
	case "boolean":
		return "bool"
	case "timestamp without time zone":
		return "ts"
	case "timestamp with time zone":
		return "tstz"
	case "time without time zone":
		return "time"
	case "interval":
		return "iv"
	case "integer[]":
		return "ints"
	case "text[]":
		return "texts"
	}
	return kind(sqlType)
}

// operations are the ways to make a value of a kind out of others, simplest first.
// {kind} stands for any expression of the kind, {kind!} for a constant, {^} for what
// the first one was replaced by, {n} for a small number.
//
// None may fail for any value: which rows an expression meets is the plan's choice.
var operations = map[kind][]string{
	"int2": {"abs({int2})", "({int2} + 1::int2)", "(- {int2})"},
	"int4": {"({int4} + {int4})", "({int4} - {n})", "length({text})", "({int4} * {n})", "length({char})", "({int4} % 7)", "({int4} / 3)", "abs({int4})", "({int2} * 2)", "({int2}::int4)",
		"({int2} + {int4})", "cardinality({ints})", "array_length({texts}, 1)", "strpos({text}, 'a')", "octet_length({bytea})", "({ints})[1]", "sign({int4})::int4",
		"({int4} & 6)", "({int4} | 1)", "({int4} / nullif({int4}, 0))", "mod({int4}, 5)", "({text} = {text})::int4", "ascii({text})", "char_length({textc})",
		"width_bucket({int4}, ARRAY[0, 10, 50])", "date_part('day', {date})::int4", "num_nulls({text}, {int4}, {date})", "array_position({texts}, 'a')",
		"bit_length({texticu})"},
	"int8": {"({int8} + {n})", "({int4}::int8)", "({int8} - {int4})", "({int8} % 10)", "abs({int8})", "({int8} * 2)", "({int2} + {int8})", "gcd({int8}, 12::int8)", "({int8} / 4)",
		"({int8} # 5)", "hashtext({text})::int8", "hashint8({int8})::int8"},
	"big": {"({big})"},
	"num0": {"({int8}::numeric)", "round({num2})", "({num0} + {int4})", "trunc({num3})", "floor({num2})", "ceil({num3})", "extract(month FROM {date})", "({num0} * {int4})",
		"sign({num2})", "mod({int4}::numeric, 7)"},
	"num2": {"({num2} + {num2})", "({num2} * {int4})", "round({num3}, 2)", "abs({num2})", "(- {num2})", "({num2} - {num0})", "round({ratio}, 2)", "({num2} % 3)",
		"round({num2} / nullif({int4}, 0), 2)", "({int4}::numeric(12,2))", "round({num2} * {num2}, 2)"},
	"num3":  {"({num3} + {num2})", "({num3} * {int4})", "abs({num3})", "extract(epoch FROM {time})::numeric(20,3)", "({num2} * 1.5)", "round({num3} * 0.25, 3)"},
	"ratio": {"({num2} / 3)", "({int4}::numeric / 7)", "({num3} / nullif({num2}, 0))", "sqrt(abs({num2}))", "extract(epoch FROM {ts})"},
	"f4":    {"abs({f4})", "({f4} + {f4})"},
	"f8":    {"({f8} + {f8})", "abs({f8})", "({f8} / 2)", "({f4}::float8)", "({int4}::float8 + 0.5)", "({f8} - {f4})", "floor({f8} + 0.5) + 0.5"},
	"text": {"upper({text})", "({text} || {text})", "lower({text})", "coalesce({text}, '?')", "left({text}, {n})", "substr({text}, 2)", "{int4}::text", "concat({text}, {int4}, {bool})",
		"({textc} COLLATE \"default\")", "({texticu} COLLATE \"default\")", "replace({text}, 'a', 'ä')", "md5({text})", "trim({text})", "{mood}::text", "{char}::text", "({char} || {text})", "{date}::text", "{num2}::text",
		"{tstz}::text", "{bool}::text", "reverse({text})", "rpad({text}, 5, '.')", "split_part({text}, '-', 2)", "initcap({text})", "format('%s/%s', {text}, {int4})",
		"to_char({date}, 'YYYY-MM')", "({jsonb} ->> 'a')", "({texts})[1]", "concat_ws('-', {text}, {texticu}, {int8})", "{text}::varchar(3)", "{text}::char(4)::text",
		"array_to_string({texts}, ',', 'null')", "encode({bytea}, 'hex')", "translate({text}, 'abc', 'xyz')", "regexp_replace({text}, '[aeiou]', '_', 'g')", "{uuid}::text",
		"quote_literal({text})", "{jsonb}::text", "to_char({num2}, 'FM9990.00')", "repeat({text}, 2)", "overlay({text} PLACING 'x' FROM 1 FOR 1)", "substring({text} FROM '[a-z]+')",
		"to_char({tstz}, 'HH24:MI TZ')", "pg_typeof({num3})::text", "jsonb_typeof({jsonb} -> 'a')", "{ints}::text", "coalesce({text}, {mood}::text, 'none')"},
	"textc":   {"upper({textc})", "({text} COLLATE \"C\")", "({textc} || 'x')", "left({textc}, 2)", "(({texticu}) COLLATE \"C\")"},
	"texticu": {"lower({texticu})", "({text} COLLATE \"en-x-icu\")", "({texticu} || '')", "upper({texticu})"},
	"bool": {"({int4} = {int4})", "({text} = {text})", "({int4} < {int4})", "(NOT {bool})", "({bool} AND {bool})", "({bool} OR {bool})", "({text} < {text})", "({int8} >= {int8})",
		"({text} LIKE {pattern})", "({text} ILIKE {pattern})", "({bool} IS TRUE)", "({bool} IS NOT FALSE)", "({bool} IS UNKNOWN)", "({num2} > {num2})", "({f8} <= {f8})",
		"({date} <> {date})", "({char} = {char})", "({char} LIKE {pattern})", "({text} = {char}::text)", "({tstz} < {tstz})", "({int4} IS DISTINCT FROM {int4})", "({text} IS NOT DISTINCT FROM {text})", "({int4} BETWEEN {int4} AND {int4})",
		"({int4} NOT BETWEEN SYMMETRIC {int4} AND {int4})", "({text} IN ({text}, {text}))", "({int4} NOT IN ({int4}, {n}))", "({int4} = ANY ({ints}::int4[]))", "({text} = ANY ({texts}::text[]))",
		"({int4} <> ALL ({ints}::int4[]))", "({textc} < {textc})", "({texticu} > {texticu})", "({mood} >= {mood})", "({jsonb} @> {jsonb})", "({jsonb} ? 'a')", "({texts} && {texts})",
		"({ints} @> {ints})", "({ints} = {ints})", "({text} ~ '^[A-Z]')", "({text} !~~ {pattern})", "({text} SIMILAR TO '%(a|b)%')", "({uuid} = {uuid})", "({bytea} < {bytea})",
		"({time} < {time})", "({iv} > {iv})", "({ts} >= {date})", "(({int4}, {text}) = ({int4}, {text}))", "(({int4}, {text}) < ({int4}, {text}))",
		"(({text}, {int8}) IN (({text}, {int8}), ({text!}, {int8!})))", "(ROW({int4}, {text}) IS NOT NULL)", "(({int4}, {int4}) IS DISTINCT FROM ({int4}, {int4}))",
		"(({int4}, {text}) >= ({int4!}, {text!}))", "starts_with({text}, 'A')", "({big} > {int8})", "({num3} = {num2})", "({ratio} > {num2})", "({f4} < {f8})", "({int2} <= {int8})",
		"(({date}, {date}) OVERLAPS ({date}, {date}))", "({text} LIKE ANY (ARRAY['A%', '%n']))", "({int8} = ANY (ARRAY[{int8}, {int8}]))", "({bool} = {bool})", "({text} IS NULL)",
		"({date} IS NOT NULL)", "({jsonb} = {jsonb})", "({text} NOT LIKE 'a!%%' ESCAPE '!')", "({text} IS NORMALIZED)", "({f8} = 'NaN')"},
	"date":  {"({date} + {n})", "({date} - {int4})", "{ts}::date", "{tstz}::date", "make_date(2024, 1 + {n}, 1)", "date_trunc('month', {date}::timestamp)::date"},
	"ts":    {"({ts} + {iv})", "{date}::timestamp", "date_trunc('hour', {ts})", "({date} + {time})", "({tstz} AT TIME ZONE 'UTC')", "{tstz}::timestamp", "({ts} - interval '90 minutes')"},
	"tstz":  {"({tstz} + {iv})", "({ts} AT TIME ZONE 'Europe/Berlin')", "date_trunc('day', {tstz})", "{ts}::timestamptz", "date_trunc('week', {tstz}, 'UTC')", "({tstz} - interval '1 day')"},
	"time":  {"{ts}::time", "({time} + interval '1 hour')", "make_time({n}, 30, 0)"},
	"iv":    {"({time} - {time})", "(- {iv})", "make_interval(hours => {n})"},
	"uuid":  {"md5({text})::uuid"},
	"bytea": {"convert_to({text}, 'UTF8')", "({bytea} || {bytea})", "sha256({bytea})", "substr({bytea}, 1, 1)"},
	"jsonb": {"to_jsonb({text})", "({jsonb} -> 'a')", "jsonb_build_object('k', {int4}, 'l', {text})", "to_jsonb({ints})", "jsonb_build_array({bool}, {text})",
		"jsonb_strip_nulls({jsonb})", "to_jsonb({mood})", "(jsonb_build_object('a', {text}) || '{\"b\": 2}')", "jsonb_path_query_array({jsonb}, '$.b[*]')", "to_jsonb({date})"},
	"json":  {"to_json({text})", "json_build_object('n', {num2}, 'd', {tstz})", "json_build_array({f8}, {uuid})"},
	"ints":  {"ARRAY[{int4}, {int4}]", "({ints} || {int4})", "array_append({ints}, {int4})", "array_remove({ints}, 1)", "({ints})[1:1]", "array_fill({int4}, ARRAY[{n}])"},
	"texts": {"ARRAY[{text}, {text}]::text[]", "string_to_array({text}, 'a')", "({texts} || {texts})", "regexp_split_to_array({text}, '[ -]')", "({texts})[2:]"},
	"char":  {"lower({char})::bpchar(2)", "({text}::bpchar(2))"},
	"mood":  {"(CASE WHEN {bool} THEN 'happy' ELSE 'sad' END)::mood", "enum_first({mood})", "'ok'::mood"},
}

// general are operations for all kinds; {} is the kind itself.
var general = []string{"coalesce({}, {})", "(CASE WHEN {bool} THEN {} ELSE {} END)", "(CASE WHEN {bool} THEN {} WHEN {bool} THEN {} END)", "(CASE {int4} WHEN 1 THEN {} ELSE {} END)"}

// comparing are operations for kinds that compare.
var comparing = []string{"nullif({}, {})", "greatest({}, {})", "least({}, {})"}

// aggregate makes one value of many rows.
type aggregate struct {
	kind kind
	// call is a template as in operations. A # is where DISTINCT may stand.
	call string
}

// aggregates lists PostgreSQL's, the frequent ones first.
var aggregates = []aggregate{
	{"int8", "count(*)"}, {"int8", "sum(#{int4})"}, {"int8", "count(#{text})"}, {"int4", "min({int4})"}, {"text", "max({text})"}, {"ratio", "avg(#{int4})"},
	{"num0", "sum(#{int8})"}, {"num2", "sum(#{num2})"}, {"num3", "sum({num3})"}, {"int8", "sum(#{int2})"}, {"f8", "sum(#{f8})"}, {"f4", "sum({f4})"}, {"iv", "sum({iv})"},
	{"num0", "sum({big})"}, {"ratio", "avg({int2})"}, {"ratio", "avg({int8})"}, {"ratio", "avg(#{num2})"}, {"ratio", "avg({big})"}, {"ratio", "avg({num3})"}, {"other", "avg({f8})"},
	{"approx", "avg({f4})"}, {"iv", "avg({iv})"},
	{"int8", "count(#{int4})"}, {"int8", "count(#{bool})"}, {"int8", "count(#({int4}, {text}))"}, {"int8", "count({f8})"}, {"int8", "count(#{date})"},
	{"int8", "min({int8})"}, {"big", "max({big})"}, {"int2", "min({int2})"}, {"num2", "max({num2})"}, {"num3", "min({num3})"}, {"f8", "max({f8})"}, {"f4", "min({f4})"},
	{"text", "min({text})"}, {"char", "min({char})"}, {"int8", "count(#{char})"}, {"textc", "max({textc})"}, {"texticu", "min({texticu})"}, {"date", "min({date})"}, {"ts", "max({ts})"}, {"tstz", "min({tstz})"}, {"time", "max({time})"},
	{"iv", "min({iv})"}, {"mood", "max({mood})"}, {"ints", "max({ints})"}, {"texts", "min({texts})"},
	{"bool", "bool_and({bool})"}, {"bool", "bool_or({bool})"}, {"bool", "every({bool})"},
	{"int4", "bit_and({int4})"}, {"int8", "bit_or({int8})"}, {"int2", "bit_xor({int2})"}, {"int4", "bit_xor(#{int4})"},
	{"approx", "stddev({f8})"}, {"approx", "stddev_pop({f4})"}, {"approx", "variance({f8})"}, {"approx", "var_pop({f8})"}, {"ratio", "stddev({int4})"}, {"ratio", "stddev_samp({num2})"},
	{"ratio", "var_samp(#{int8})"}, {"ratio", "var_pop({num3})"}, {"ratio", "stddev_pop({int2})"}, {"approx", "var_samp({f4})"}, {"ratio", "variance({num2})"},
	{"approx", "corr({f8}, {int4})"}, {"approx", "covar_pop({f8}, {f8})"}, {"approx", "covar_samp({int4}, {f8})"}, {"int8", "regr_count({f8}, {f8})"},
	{"approx", "regr_slope({f8}, {int4})"}, {"approx", "regr_intercept({f8}, {int4})"}, {"approx", "regr_r2({f8}, {f8})"}, {"approx", "regr_avgx({f8}, {int4})"},
	{"approx", "regr_avgy({f8}, {int4})"}, {"approx", "regr_sxx({f8}, {int4})"}, {"approx", "regr_syy({f8}, {int4})"}, {"approx", "regr_sxy({f8}, {int4})"},
	{"ints", "array_agg({int4} ORDER BY {^})"}, {"ints", "array_agg(#{int4} ORDER BY {^} DESC NULLS LAST)"}, {"texts", "array_agg({text}::text ORDER BY {text}, {^}::text)"},
	{"other", "array_agg({mood} ORDER BY {^})"}, {"other", "array_agg({num2} ORDER BY {^})"},
	{"text", "string_agg({text}::text, ',' ORDER BY {^}::text)"}, {"text", "string_agg(#{text}::text, '; ' ORDER BY {^}::text DESC)"}, {"bytea", "string_agg({bytea}, '\\x00' ORDER BY {^})"},
	{"text", "string_agg({textc}, '' ORDER BY {^})"}, {"text", "string_agg({texticu}, '|' ORDER BY {^})"}, {"text", "string_agg({int4}::text, ',' ORDER BY {date}, {^}::text)"},
	{"json", "json_agg({text} ORDER BY {^})"}, {"jsonb", "jsonb_agg({int4} ORDER BY {^} DESC)"}, {"jsonb", "jsonb_agg(#{bool} ORDER BY {^})"}, {"json", "json_agg({tstz} ORDER BY {^})"},
	{"json", "json_object_agg({int8}::text || '', 1 ORDER BY {^}) FILTER (WHERE {^} IS NOT NULL)"}, {"jsonb", "jsonb_object_agg(coalesce({text}, '')::text, true)"},
	{"f8", "percentile_cont(0.5) WITHIN GROUP (ORDER BY {f8})"}, {"f8", "percentile_cont(0.25) WITHIN GROUP (ORDER BY {int4} DESC)"}, {"text", "percentile_disc(0.5) WITHIN GROUP (ORDER BY {text})"},
	{"int4", "percentile_disc(0.9) WITHIN GROUP (ORDER BY {int4} DESC)"}, {"other", "percentile_cont(ARRAY[0, 0.5, 1]) WITHIN GROUP (ORDER BY {f8})"},
	{"other", "percentile_disc(ARRAY[0.25, 0.75]) WITHIN GROUP (ORDER BY {date})"}, {"int4", "mode() WITHIN GROUP (ORDER BY {int4})"}, {"text", "mode() WITHIN GROUP (ORDER BY {text} DESC)"},
	{"mood", "mode() WITHIN GROUP (ORDER BY {mood})"}, {"int8", "rank({int4!}) WITHIN GROUP (ORDER BY {int4})"}, {"int8", "dense_rank({text!}) WITHIN GROUP (ORDER BY {text})"},
	{"approx", "percent_rank({int4!}) WITHIN GROUP (ORDER BY {int4})"}, {"approx", "cume_dist({num2!}) WITHIN GROUP (ORDER BY {num2} DESC)"},
	{"int8", "rank({int4!}, {text!}) WITHIN GROUP (ORDER BY {int4}, {text})"},
}

// windows are window functions. Those of ranked give the same to rows that are equal
// in the window's ORDER BY; the others need an order without ties.
var (
	ranked = []aggregate{
		{"int8", "rank()"}, {"int8", "count(*)"}, {"int8", "dense_rank()"}, {"int8", "sum({int4})"}, {"text", "max({text})"}, {"ratio", "avg({num2})"}, {"int8", "count({text}) FILTER (WHERE {bool})"},
		{"approx", "percent_rank()"}, {"approx", "cume_dist()"}, {"int4", "min({int4})"}, {"bool", "bool_or({bool})"}, {"num3", "sum({num3})"}, {"f8", "sum({f8})"},
	}
	ordered = []aggregate{
		{"int8", "row_number()"}, {"int4", "lag({int4})"}, {"text", "lead({text}, 2, 'none')"}, {"text", "first_value({text})"}, {"int4", "last_value({int4})"}, {"date", "nth_value({date}, 2)"},
		{"int4", "ntile(3)"}, {"ints", "array_agg({int4})"}, {"text", "string_agg({text}, ',')"}, {"int8", "sum({int2})"}, {"num2", "lag({num2}, 1, 0.00)"}, {"jsonb", "jsonb_agg({text})"},
	}
	frames = []string{"", "ROWS BETWEEN 1 PRECEDING AND CURRENT ROW", "ROWS UNBOUNDED PRECEDING", "ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING",
		"GROUPS BETWEEN 1 PRECEDING AND 1 FOLLOWING", "ROWS BETWEEN 2 FOLLOWING AND 3 FOLLOWING", "ROWS BETWEEN 2 PRECEDING AND 1 FOLLOWING EXCLUDE CURRENT ROW"}
)
