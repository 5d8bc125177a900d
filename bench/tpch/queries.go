package tpch

import (
	"embed"
	"strconv"
	"strings"
)

//go:embed queries
var queryFiles embed.FS

// QueryCount is the number of queries; they are numbered from 1.
const QueryCount = 22

// fraction is the one parameter that goes with the scale factor: at scale 1 query 11
// wants parts that are worth more than a ten-thousandth of all (2.4.11.3).
const fraction = 0.0001

// Query returns the text of a query, with the parameters by which the specification
// validates answers, for data of a scale factor. Query 15 is the variant with a common
// table expression, so that all are one SELECT; the limits that are given in words there
// are LIMIT clauses.
func Query(number int, scale float64) string {
	b, err := queryFiles.ReadFile("queries/" + strconv.Itoa(number) + ".sql")
	if err != nil {
		panic(err) // there is no such query
	}
	if number != 11 {
		return string(b)
	}
	literal := func(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
	return strings.Replace(string(b), literal(fraction), literal(fraction/scale), 1)
}
