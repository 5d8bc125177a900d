package planner

import pg "github.com/pganalyze/pg_query_go/v6"

// OIDs of pg_type that the planner must know by number (pg_type.dat).
const (
	oidUnknown  = 705
	oidInt8     = 20
	oidInterval = 1186
)

var typeOIDs = map[string]uint32{
	"int2": 21, "int4": 23, "int8": 20, "text": 25, "varchar": 1043, "bpchar": 1042,
	"uuid": 2950, "date": 1082, "timestamp": 1114, "timestamptz": 1184, "bytea": 17,
}

// scalarTypes are the names of PostgreSQL's scalar types as SQL has them, without a modifier.
var scalarTypes = map[uint32]string{
	16: "pg_catalog.bool", 17: "pg_catalog.bytea", 20: "pg_catalog.int8", 21: "pg_catalog.int2", 23: "pg_catalog.int4",
	25: "pg_catalog.text", 114: "pg_catalog.json", 700: "pg_catalog.float4", 701: "pg_catalog.float8",
	1042: "pg_catalog.bpchar", 1043: "pg_catalog.varchar", 1082: "pg_catalog.date", 1083: "pg_catalog.time",
	1114: "pg_catalog.timestamp", 1184: "pg_catalog.timestamptz", 1186: "pg_catalog.interval", 1266: "pg_catalog.timetz",
	1700: "pg_catalog.numeric", 2950: "pg_catalog.uuid", 3802: "pg_catalog.jsonb",
}

// arrayElements maps array types to the types of their elements.
var arrayElements = map[uint32]uint32{
	1005: 21, 1007: 23, 1016: 20, 1009: 25, 1015: 1043, 1014: 1042,
	2951: 2950, 1182: 1082, 1115: 1114, 1185: 1184, 1001: 17,
}

// typeOID is the OID of a built-in type by its name in the grammar's form, or 0.
func typeOID(t *pg.TypeName) uint32 {
	if t == nil || len(t.Names) == 0 || len(t.Names) > 2 || t.Setof || t.PctType {
		return 0
	}
	if len(t.Names) == 2 && str(t.Names[0]) != "pg_catalog" {
		return 0
	}
	return typeOIDs[unqualified(t.Names)]
}

func elementOID(array uint32) uint32 { return arrayElements[array] }
