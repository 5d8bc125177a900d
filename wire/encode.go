package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"strconv"
)

// The functions of this file append whole messages, header included, to dst and
// return it extended; they allocate only when dst has to grow. Names and
// statements are C strings: a NUL byte in one is left out so that it can't
// shift what follows. The caller bounds the length of what it sends; PostgreSQL
// accepts messages of somewhat less than 1 GiB (PQ_LARGE_MESSAGE_LIMIT).

// text is anything that can be appended byte by byte.
type text interface{ ~string | ~[]byte }

// maxCount is the largest count of parameters, formats or OIDs in a message, a
// 16-bit number without a sign.
const maxCount = math.MaxUint16

// appendText appends s as a C string.
func appendText[T text](dst []byte, s T) []byte {
	for i := range len(s) {
		if s[i] == 0 {
			return appendCString(dst, string(s))
		}
	}
	return append(append(dst, s...), 0)
}

// appendCount appends a 16-bit count. A count above maxCount is a mistake of
// the program, which never makes more of anything than it was sent, hence the
// panic.
func appendCount(dst []byte, n int, of string) []byte {
	if n > maxCount {
		panic(fmt.Sprintf("wire: %d %s in one message", n, of))
	}
	return binary.BigEndian.AppendUint16(dst, uint16(n))
}

func appendInt16s(dst []byte, list []int16, of string) []byte {
	dst = appendCount(dst, len(list), of)
	for _, v := range list {
		dst = binary.BigEndian.AppendUint16(dst, uint16(v))
	}
	return dst
}

// AppendQuery appends a Query: the simple protocol.
func AppendQuery[T text](dst []byte, query T) []byte {
	dst, start := beginMessage(dst, 'Q')
	return endMessage(appendText(dst, query), start)
}

// AppendParse appends a Parse. An OID of 0 leaves the type of that parameter to
// the server. It panics on more than 65,535 OIDs.
func AppendParse[N, Q text](dst []byte, name N, query Q, paramOIDs []uint32) []byte {
	dst, start := beginMessage(dst, 'P')
	dst = appendText(dst, name)
	dst = appendText(dst, query)
	dst = appendCount(dst, len(paramOIDs), "parameter types")
	for _, oid := range paramOIDs {
		dst = binary.BigEndian.AppendUint32(dst, oid)
	}
	return endMessage(dst, start)
}

// AppendBind appends a Bind. A nil parameter is NULL, an empty one is not. Of
// paramFormats there may be none (all are text), one (for all), or one for each
// parameter; likewise of resultFormats for the columns. It panics on more than
// 65,535 of anything.
func AppendBind[P, S text](dst []byte, portal P, statement S, paramFormats []int16, params [][]byte, resultFormats []int16) []byte {
	dst, start := beginMessage(dst, 'B')
	dst = appendText(dst, portal)
	dst = appendText(dst, statement)
	dst = appendInt16s(dst, paramFormats, "parameter formats")
	dst = appendCount(dst, len(params), "parameters")
	for _, p := range params {
		dst = appendValue(dst, p, p == nil)
	}
	dst = appendInt16s(dst, resultFormats, "result formats")
	return endMessage(dst, start)
}

// AppendSelected appends a Bind for another statement, whose parameters are
// those of b that pick names, counted from 0, in pick's order, each in its
// format. One may be picked several times. The result formats are those given,
// which may be b.ResultFormats. It panics on an index that b does not have and
// on more than 65,535 of anything. b's body has to be valid still.
func AppendSelected[P, S text](dst []byte, portal P, statement S, b *Bind, pick []int, resultFormats []int16) []byte {
	dst, start := beginMessage(dst, 'B')
	dst = appendText(dst, portal)
	dst = appendText(dst, statement)
	if len(b.ParamFormats) <= 1 {
		dst = appendInt16s(dst, b.ParamFormats, "parameter formats")
	} else {
		dst = appendCount(dst, len(pick), "parameter formats")
		for _, i := range pick {
			dst = binary.BigEndian.AppendUint16(dst, uint16(b.ParamFormats[i]))
		}
	}
	dst = appendCount(dst, len(pick), "parameters")
	for _, i := range pick {
		value, null := b.Param(i)
		dst = appendValue(dst, value, null)
	}
	dst = appendInt16s(dst, resultFormats, "result formats")
	return endMessage(dst, start)
}

func appendValue(dst, value []byte, null bool) []byte {
	if null {
		return append(dst, 0xff, 0xff, 0xff, 0xff)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	return append(dst, value...)
}

// AppendDescribe appends a Describe of a Statement or a Portal.
func AppendDescribe[T text](dst []byte, kind Kind, name T) []byte {
	return appendKindName(dst, 'D', kind, name)
}

// AppendClose appends a Close of a Statement or a Portal.
func AppendClose[T text](dst []byte, kind Kind, name T) []byte {
	return appendKindName(dst, 'C', kind, name)
}

func appendKindName[T text](dst []byte, typ byte, kind Kind, name T) []byte {
	dst, start := beginMessage(dst, typ)
	return endMessage(appendText(append(dst, byte(kind)), name), start)
}

// AppendExecute appends an Execute. With maxRows 0 all rows are asked for.
func AppendExecute[T text](dst []byte, portal T, maxRows int32) []byte {
	dst, start := beginMessage(dst, 'E')
	dst = appendText(dst, portal)
	return endMessage(binary.BigEndian.AppendUint32(dst, uint32(maxRows)), start)
}

// AppendSync appends a Sync.
func AppendSync(dst []byte) []byte { return appendEmpty(dst, 'S') }

// AppendFlush appends a Flush.
func AppendFlush(dst []byte) []byte { return appendEmpty(dst, 'H') }

// AppendTerminate appends a Terminate, after which the connection is closed.
func AppendTerminate(dst []byte) []byte { return appendEmpty(dst, 'X') }

// AppendCopyDataHeader appends the header of a CopyData whose n bytes of data
// the caller appends or writes next.
func AppendCopyDataHeader(dst []byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(dst, 'd'), uint32(n+4))
}

// AppendCopyDone appends the end of COPY data.
func AppendCopyDone(dst []byte) []byte { return appendEmpty(dst, 'c') }

// AppendCopyFail appends the message with which a client breaks off a COPY FROM
// STDIN; the server then answers with an error that quotes reason.
func AppendCopyFail[T text](dst []byte, reason T) []byte {
	dst, start := beginMessage(dst, 'f')
	return endMessage(appendText(dst, reason), start)
}

// AppendCommandComplete appends a CommandComplete with a number of rows, as
// SELECT, INSERT, UPDATE, DELETE, MERGE, MOVE, FETCH and COPY have one. With
// the verb INSERT, the 0 goes in between that stands where the OID of a row
// once stood. It is the inverse of SplitTag.
func AppendCommandComplete[T text](dst []byte, verb T, rows uint64) []byte {
	dst, start := beginMessage(dst, 'C')
	dst = append(dst, verb...)
	if string(verb) == "INSERT" {
		dst = append(dst, " 0"...)
	}
	dst = append(dst, ' ')
	return endMessage(append(strconv.AppendUint(dst, rows, 10), 0), start)
}

// AppendCommandTag appends a CommandComplete with the tag as it is.
func AppendCommandTag[T text](dst []byte, tag T) []byte {
	dst, start := beginMessage(dst, 'C')
	return endMessage(appendText(dst, tag), start)
}

// AppendParseComplete appends a ParseComplete.
func AppendParseComplete(dst []byte) []byte { return appendEmpty(dst, '1') }

// AppendBindComplete appends a BindComplete.
func AppendBindComplete(dst []byte) []byte { return appendEmpty(dst, '2') }

// AppendCloseComplete appends a CloseComplete.
func AppendCloseComplete(dst []byte) []byte { return appendEmpty(dst, '3') }

// AppendNoData appends a NoData: what was described returns no rows.
func AppendNoData(dst []byte) []byte { return appendEmpty(dst, 'n') }

// AppendNoParameters appends the ParameterDescription of a statement without parameters.
func AppendNoParameters(dst []byte) []byte { return append(dst, 't', 0, 0, 0, 6, 0, 0) }

// AppendEmptyQueryResponse appends an EmptyQueryResponse, which stands in the
// place of a CommandComplete.
func AppendEmptyQueryResponse(dst []byte) []byte { return appendEmpty(dst, 'I') }

// AppendPortalSuspended appends a PortalSuspended: an Execute reached its limit
// of rows.
func AppendPortalSuspended(dst []byte) []byte { return appendEmpty(dst, 's') }

func appendEmpty(dst []byte, typ byte) []byte { return append(dst, typ, 0, 0, 0, 4) }
