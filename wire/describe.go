package wire

import (
	"bytes"
	"encoding/binary"
	"math"
)

// The decoders of this file take the body of a message, without its header.
// They trust no length or count in it, read every byte or fail, and allocate
// nothing but room in the slices of the value that they fill, which is reused
// from call to call. What they return are views into the body, valid as long as
// the body is. After an error the value is not to be used.
//
// Errors are of severity ERROR and worded as PostgreSQL's own (libpq/pqformat.c
// and tcop/postgres.c): since the message's length was right, the connection
// goes on at the next message.
var (
	errInsufficientData = Errorf(ProtocolViolation, "insufficient data left in message")
	errInvalidString    = Errorf(ProtocolViolation, "invalid string in message")
	errInvalidFormat    = Errorf(ProtocolViolation, "invalid message format")
)

// cursor reads a body from front to back. After the first failure every read
// returns zero values.
type cursor struct {
	body []byte
	off  int
	err  error
}

func (c *cursor) fail(err error) {
	if c.err == nil {
		c.err = err
	}
	c.off = len(c.body)
}

// have says whether n more bytes are there.
func (c *cursor) have(n int) bool {
	if c.err == nil && len(c.body)-c.off >= n {
		return true
	}
	c.fail(errInsufficientData)
	return false
}

func (c *cursor) byte() byte {
	if !c.have(1) {
		return 0
	}
	c.off++
	return c.body[c.off-1]
}

func (c *cursor) uint16() uint16 {
	if !c.have(2) {
		return 0
	}
	c.off += 2
	return binary.BigEndian.Uint16(c.body[c.off-2:])
}

func (c *cursor) uint32() uint32 {
	if !c.have(4) {
		return 0
	}
	c.off += 4
	return binary.BigEndian.Uint32(c.body[c.off-4:])
}

// string reads up to a NUL. The view has no room to be appended to.
func (c *cursor) string() []byte {
	if c.err != nil {
		return nil
	}
	end := bytes.IndexByte(c.body[c.off:], 0)
	if end < 0 {
		c.fail(errInvalidString)
		return nil
	}
	s := c.body[c.off : c.off+end : c.off+end]
	c.off += end + 1
	return s
}

// count reads a 16-bit count of things of at least size bytes each, all of
// which must be there.
func (c *cursor) count(size int) int {
	n := int(c.uint16())
	if !c.have(n * size) {
		return 0
	}
	return n
}

func (c *cursor) int16s(list []int16) []int16 {
	list = list[:0]
	for range c.count(2) {
		list = append(list, int16(c.uint16()))
	}
	return list
}

// end returns the first failure, or that bytes are left over.
func (c *cursor) end() error {
	if c.err == nil && c.off != len(c.body) {
		c.err = errInvalidFormat
	}
	return c.err
}

// DecodeQuery returns the statements of a Query.
func DecodeQuery(body []byte) (query []byte, err error) {
	c := cursor{body: body}
	query = c.string()
	return query, c.end()
}

// Parse is a decoded Parse message.
type Parse struct {
	Name      []byte // of the prepared statement; empty: the unnamed one
	Query     []byte
	ParamOIDs []uint32 // may be fewer than the statement has; 0: unspecified
}

// DecodeParse decodes a Parse.
func DecodeParse(body []byte, p *Parse) error {
	c := cursor{body: body}
	p.Name = c.string()
	p.Query = c.string()
	p.ParamOIDs = p.ParamOIDs[:0]
	for range c.count(4) {
		p.ParamOIDs = append(p.ParamOIDs, c.uint32())
	}
	return c.end()
}

// Formats of parameters and columns.
const (
	FormatText   = 0
	FormatBinary = 1
)

// Bind is a decoded Bind message.
type Bind struct {
	Portal    []byte // empty: the unnamed one
	Statement []byte
	// ParamFormats has no element (all parameters are text), one (for all), or
	// one a parameter. See ParamFormat.
	ParamFormats []int16
	Params       []Span // where the parameters lie in the body
	// ResultFormats has no element (all columns are text), one (for all), or
	// one a column. That the number fits the statement is for PostgreSQL to
	// check.
	ResultFormats []int16

	body []byte
}

// Span is where a value lies in a message's body, in bytes. A NULL has Len -1.
type Span struct{ Off, Len int32 }

// IsNull says whether the value is NULL.
func (s Span) IsNull() bool { return s.Len < 0 }

// DecodeBind decodes a Bind.
func DecodeBind(body []byte, b *Bind) error {
	c := cursor{body: body}
	b.body = body
	b.Portal = c.string()
	b.Statement = c.string()
	b.ParamFormats = c.int16s(b.ParamFormats)
	b.Params = b.Params[:0]
	for range c.count(4) {
		n := int32(c.uint32())
		if n < -1 || n > 0 && !c.have(int(n)) {
			c.fail(errInsufficientData)
			break
		}
		b.Params = append(b.Params, Span{int32(c.off), n})
		c.off += int(max(n, 0))
	}
	b.ResultFormats = c.int16s(b.ResultFormats)
	if err := c.end(); err != nil {
		return err
	}
	if f, p := len(b.ParamFormats), len(b.Params); f > 1 && f != p {
		return Errorf(ProtocolViolation, "bind message has %d parameter formats but %d parameters", f, p)
	}
	return nil
}

// Param returns parameter i, counted from 0, as a view into the body. It panics
// if there is none.
func (b *Bind) Param(i int) (value []byte, null bool) {
	s := b.Params[i]
	if s.IsNull() {
		return nil, true
	}
	return b.body[s.Off : s.Off+s.Len : s.Off+s.Len], false
}

// ParamFormat returns the format of parameter i, counted from 0. It may be
// neither FormatText nor FormatBinary: that is for PostgreSQL to refuse.
func (b *Bind) ParamFormat(i int) int16 {
	switch len(b.ParamFormats) {
	case 0:
		return FormatText
	case 1:
		return b.ParamFormats[0]
	}
	return b.ParamFormats[i]
}

// Kind says of which kind the thing is that a Describe or a Close names.
type Kind byte

// The kinds.
const (
	Statement Kind = 'S'
	Portal    Kind = 'P'
)

// DecodeDescribe decodes a Describe. The kind is Statement or Portal.
func DecodeDescribe(body []byte) (kind Kind, name []byte, err error) {
	return decodeKindName(body, "DESCRIBE")
}

// DecodeClose decodes a Close. The kind is Statement or Portal.
func DecodeClose(body []byte) (kind Kind, name []byte, err error) {
	return decodeKindName(body, "CLOSE")
}

func decodeKindName(body []byte, message string) (Kind, []byte, error) {
	c := cursor{body: body}
	kind, name := Kind(c.byte()), c.string()
	if err := c.end(); err != nil {
		return 0, nil, err
	}
	if kind != Statement && kind != Portal {
		return 0, nil, Errorf(ProtocolViolation, "invalid %s message subtype %d", message, kind)
	}
	return kind, name, nil
}

// DecodeExecute decodes an Execute. All rows are asked for when maxRows is not
// above 0.
func DecodeExecute(body []byte) (portal []byte, maxRows int32, err error) {
	c := cursor{body: body}
	portal = c.string()
	maxRows = int32(c.uint32())
	return portal, maxRows, c.end()
}

// RowDescription gives access to a RowDescription where it lies. Columns are
// counted from 0; an index that the message does not have panics.
type RowDescription struct {
	body []byte
	// fields has for each column where what follows its name begins.
	fields []field
}

type field struct{ name, rest int32 }

// Offsets behind a column's name, in bytes.
const (
	fieldTableOID  = 0
	fieldAttribute = 4
	fieldTypeOID   = 6
	fieldTypeSize  = 10
	fieldModifier  = 12
	fieldFormat    = 16
	fieldBytes     = 18
)

// DecodeRowDescription sets d to a RowDescription, of which it becomes a view.
func DecodeRowDescription(body []byte, d *RowDescription) error {
	c := cursor{body: body}
	d.body, d.fields = body, d.fields[:0]
	for range c.count(1 + fieldBytes) {
		name := c.off
		c.string()
		if !c.have(fieldBytes) {
			break
		}
		d.fields = append(d.fields, field{int32(name), int32(c.off)})
		c.off += fieldBytes
	}
	return c.end()
}

// Len returns the number of columns.
func (d *RowDescription) Len() int { return len(d.fields) }

// Name returns the name of column i.
func (d *RowDescription) Name(i int) []byte {
	f := d.fields[i]
	return d.body[f.name : f.rest-1 : f.rest-1]
}

func (d *RowDescription) at(i, off int) []byte { return d.body[int(d.fields[i].rest)+off:] }

// TableOID returns the OID of the table that column i is from, or 0.
func (d *RowDescription) TableOID(i int) uint32 {
	return binary.BigEndian.Uint32(d.at(i, fieldTableOID))
}

// SetTableOID changes the OID of column i's table in the message.
func (d *RowDescription) SetTableOID(i int, oid uint32) {
	binary.BigEndian.PutUint32(d.at(i, fieldTableOID), oid)
}

// Attribute returns the number of column i in its table, or 0.
func (d *RowDescription) Attribute(i int) int16 {
	return int16(binary.BigEndian.Uint16(d.at(i, fieldAttribute)))
}

// SetAttribute changes the number of column i in its table.
func (d *RowDescription) SetAttribute(i int, n int16) {
	binary.BigEndian.PutUint16(d.at(i, fieldAttribute), uint16(n))
}

// TypeOID returns the OID of column i's type.
func (d *RowDescription) TypeOID(i int) uint32 {
	return binary.BigEndian.Uint32(d.at(i, fieldTypeOID))
}

// SetTypeOID changes the OID of column i's type in the message.
func (d *RowDescription) SetTypeOID(i int, oid uint32) {
	binary.BigEndian.PutUint32(d.at(i, fieldTypeOID), oid)
}

// TypeSize returns the size of column i's type in bytes; below 0 it varies
// (pg_type.typlen).
func (d *RowDescription) TypeSize(i int) int16 {
	return int16(binary.BigEndian.Uint16(d.at(i, fieldTypeSize)))
}

// TypeModifier returns the modifier of column i's type (pg_attribute.atttypmod).
func (d *RowDescription) TypeModifier(i int) int32 {
	return int32(binary.BigEndian.Uint32(d.at(i, fieldModifier)))
}

// SetTypeModifier changes the modifier of column i's type in the message.
func (d *RowDescription) SetTypeModifier(i int, mod int32) {
	binary.BigEndian.PutUint32(d.at(i, fieldModifier), uint32(mod))
}

// Format returns the format of column i. When a statement was described, and
// not a portal, it isn't known yet and always FormatText.
func (d *RowDescription) Format(i int) int16 {
	return int16(binary.BigEndian.Uint16(d.at(i, fieldFormat)))
}

// SetFormat changes the format of column i in the message.
func (d *RowDescription) SetFormat(i int, format int16) {
	binary.BigEndian.PutUint16(d.at(i, fieldFormat), uint16(format))
}

// ParameterDescription gives access to a ParameterDescription where it lies.
type ParameterDescription struct{ oids []byte }

// DecodeParameterDescription returns a view of a ParameterDescription.
func DecodeParameterDescription(body []byte) (ParameterDescription, error) {
	c := cursor{body: body}
	n := c.count(4)
	d := ParameterDescription{body[c.off : c.off+4*n]}
	c.off += 4 * n
	return d, c.end()
}

// Len returns the number of parameters.
func (d ParameterDescription) Len() int { return len(d.oids) / 4 }

// OID returns the OID of parameter i's type, counted from 0.
func (d ParameterDescription) OID(i int) uint32 { return binary.BigEndian.Uint32(d.oids[4*i:]) }

// SetOID changes the OID of parameter i's type in the message.
func (d ParameterDescription) SetOID(i int, oid uint32) {
	binary.BigEndian.PutUint32(d.oids[4*i:], oid)
}

// DecodeCommandComplete returns the tag of a CommandComplete.
func DecodeCommandComplete(body []byte) (tag []byte, err error) { return DecodeQuery(body) }

// SplitTag splits a command tag into its verb and the number of rows:
// "SELECT 3", "UPDATE 0", and "INSERT 0 5", whose verb is "INSERT". counted is
// false when the tag ends in no number; the verb is then the whole tag
// ("CREATE TABLE", "BEGIN").
func SplitTag(tag []byte) (verb []byte, rows uint64, counted bool) {
	space := bytes.LastIndexByte(tag, ' ')
	if space < 0 {
		return tag, 0, false
	}
	rows, ok := parseCount(tag[space+1:])
	if !ok {
		return tag, 0, false
	}
	verb = tag[:space]
	if oid, ok := bytes.CutPrefix(verb, []byte("INSERT ")); ok {
		if _, ok := parseCount(oid); ok {
			verb = verb[:len("INSERT")]
		}
	}
	return verb, rows, true
}

// parseCount reads a decimal number without a sign.
func parseCount(s []byte) (n uint64, ok bool) {
	if len(s) == 0 {
		return 0, false
	}
	for _, ch := range s {
		d := uint64(ch - '0')
		if d > 9 || n > (math.MaxUint64-d)/10 {
			return 0, false
		}
		n = 10*n + d
	}
	return n, true
}

// DecodeParameterStatus returns a setting and its value.
func DecodeParameterStatus(body []byte) (name, value []byte, err error) {
	c := cursor{body: body}
	name, value = c.string(), c.string()
	return name, value, c.end()
}

// DecodeReadyForQuery returns TxIdle, TxActive or TxFailed.
func DecodeReadyForQuery(body []byte) (status byte, err error) {
	if len(body) != 1 {
		return 0, errInvalidFormat
	}
	switch body[0] {
	case TxIdle, TxActive, TxFailed:
		return body[0], nil
	}
	return 0, Errorf(ProtocolViolation, "invalid transaction status %d in ReadyForQuery message", body[0])
}

// CopyResponse is a view of a CopyInResponse, CopyOutResponse or
// CopyBothResponse.
type CopyResponse struct {
	Binary  bool // the whole COPY is in binary format
	formats []byte
}

// DecodeCopyResponse returns a view of a CopyInResponse, CopyOutResponse or
// CopyBothResponse.
func DecodeCopyResponse(body []byte) (CopyResponse, error) {
	c := cursor{body: body}
	format := c.byte()
	n := c.count(2)
	r := CopyResponse{Binary: format == FormatBinary, formats: body[c.off : c.off+2*n]}
	c.off += 2 * n
	if err := c.end(); err != nil {
		return CopyResponse{}, err
	}
	if format > FormatBinary {
		return CopyResponse{}, Errorf(ProtocolViolation, "invalid format %d in COPY response", format)
	}
	return r, nil
}

// Len returns the number of columns.
func (r CopyResponse) Len() int { return len(r.formats) / 2 }

// Format returns the format of column i, counted from 0.
func (r CopyResponse) Format(i int) int16 { return int16(binary.BigEndian.Uint16(r.formats[2*i:])) }
