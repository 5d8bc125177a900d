package exec

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/shardgate/shardgate/planner"
	"github.com/shardgate/shardgate/planner/sqltext"
	"github.com/shardgate/shardgate/shardmap"
	"github.com/shardgate/shardgate/wire"
)

// Values are what a plan's values are read from: the text with its literals, and
// the parameters of a Bind, if there is one.
type Values struct {
	Text     []byte
	Literals []sqltext.Literal
	Bind     *wire.Bind
	// ASCIIOnly says that text beyond ASCII comes in another encoding than the
	// server's.
	ASCIIOnly bool
	// Guarded is the statement's.
	Guarded bool
	// Hash asks a shard for the hash of a value that can't be read here. value is
	// in text form unless binary; from is the OID of its type, 0 if the key's own.
	Hash func(t shardmap.KeyType, typmod int32, value []byte, binary bool, from uint32) (uint64, *wire.Error)
	// HashSQL asks a shard for the hash of the value of an expression, which may be one
	// with parameters of these types.
	HashSQL func(t shardmap.KeyType, typmod int32, expr []byte, types []uint32, bind *wire.Bind) (h uint64, null bool, err *wire.Error)

	buf []byte
}

// SlotSet are the slots of a pin's alternatives.
type SlotSet struct {
	Slots []shardmap.Slot
	// Nothing says that no row can match, whatever shard is asked.
	Nothing bool
}

// Slots computes the slots of a pin. dst is reused.
func (v *Values) Slots(p *planner.Pin, dst []shardmap.Slot) (SlotSet, *wire.Error) {
	if p.Array != nil {
		return v.arraySlots(p, dst)
	}
	set := SlotSet{Slots: dst[:0]}
	for _, key := range p.Keys {
		slot, null, err := v.Slot(p, key)
		if err != nil {
			return set, err
		}
		if !null {
			set.Slots = append(set.Slots, slot)
		}
	}
	set.Nothing = len(set.Slots) == 0
	return set, nil
}

// Slot computes the slot of one key. null says that one of its values is NULL.
func (v *Values) Slot(p *planner.Pin, key []planner.Value) (slot shardmap.Slot, null bool, err *wire.Error) {
	var hash uint64
	for i, value := range key {
		typmod := int32(-1)
		if p.Stores {
			typmod = p.Table.KeyTypmod(i)
		}
		h, null, err := v.hash(p.Types[i], typmod, value)
		if err != nil && v.Guarded && value.Source == planner.Computed && !p.Stores && ofValue(err) {
			// No row has such a key. Who runs the statement says what is wrong with it, if
			// that is ever evaluated.
			return 0, true, nil
		}
		if null || err != nil {
			return 0, null, err
		}
		hash = combine(len(key), hash, h)
	}
	return shardmap.SlotOf(hash), false, nil
}

// ofValue says whether an error is about the values in an expression: a data exception, one
// that a function raises, or a parameter of the configuration that is not there.
func ofValue(e *wire.Error) bool {
	return strings.HasPrefix(e.Code, "22") || strings.HasPrefix(e.Code, "P0") || e.Code == "42704"
}

// combine adds the hash of a value to that of the values before it, of a key of n values.
func combine(n int, hash, h uint64) uint64 {
	if n == 1 {
		return h
	}
	return shardmap.Combine(hash, h)
}

// hash computes the hash of one value.
func (v *Values) hash(t shardmap.KeyType, typmod int32, value planner.Value) (h uint64, null bool, err *wire.Error) {
	switch value.Source {
	case planner.IsNull:
		return 0, true, nil
	case planner.Computed:
		return v.HashSQL(t, typmod, value.Expr.SQL.Append(nil, v.Text, v.Literals, nil), value.Expr.Params, v.Bind)
	case planner.FromLiteral:
		lit := v.Literals[value.Index]
		if lit.Kind == sqltext.Integer {
			n, ok := lit.Int64(v.Text)
			if ok {
				if value.Negative {
					n = -n
				}
				return shardmap.HashInt64(n), false, nil
			}
		}
		var ok bool
		if v.buf, ok = lit.AppendValue(v.buf[:0], v.Text); !ok {
			return 0, false, wire.Errorf("22P02", "the key's literal can't be read")
		}
		h, err = v.hashText(t, typmod, v.buf, value.Type)
		return h, false, v.placed(err, value)
	}
	if v.Bind == nil || value.Index >= len(v.Bind.Params) {
		return 0, false, wire.Errorf("42P02", "there is no parameter $%d", value.Index+1)
	}
	b, isNull := v.Bind.Param(value.Index)
	if isNull {
		return 0, true, nil
	}
	if v.Bind.ParamFormat(value.Index) == wire.FormatText {
		h, err = v.hashText(t, typmod, b, value.Type)
		return h, false, v.placed(err, value)
	}
	if h, ok := t.HashBinary(b); ok && !v.changes(t, typmod, b, true) && !(v.ASCIIOnly && textual(t) && !isASCII(b)) {
		return h, false, nil
	}
	h, err = v.Hash(t, typmod, b, true, value.Type)
	return h, false, v.placed(err, value)
}

// placed gives an error about a value the place that PostgreSQL names: the
// literal's position in the text, or the parameter (bind_param_error_callback in
// postgres.c). The error that Hash gave names its own parameter.
func (v *Values) placed(err *wire.Error, value planner.Value) *wire.Error {
	if err == nil || err.Where == "" {
		return err
	}
	e := *err
	if value.Source == planner.FromLiteral {
		e.Where = ""
		e.Position = int32(utf8.RuneCount(v.Text[:v.Literals[value.Index].Start])) + 1
		return &e
	}
	e.Where = "unnamed portal"
	if name := v.Bind.Portal; len(name) > 0 {
		e.Where = "portal \"" + string(name) + "\""
	}
	e.Where += " parameter $" + strconv.Itoa(value.Index+1)
	if v.Bind.ParamFormat(value.Index) == wire.FormatText {
		e.Where += " = '...'"
	}
	return &e
}

func (v *Values) hashText(t shardmap.KeyType, typmod int32, b []byte, from uint32) (uint64, *wire.Error) {
	if v.changes(t, typmod, b, false) || v.ASCIIOnly && textual(t) && !isASCII(b) {
		return v.Hash(t, typmod, b, false, from)
	}
	s := b
	if from != 0 && from != t.OID() {
		// It is read as a value of the type it is cast to.
		if o, ok := shardmap.KeyTypeOfOID(from); ok && !textual(o) {
			if h, ok := o.HashText(s); ok {
				return h, nil
			}
			return v.Hash(t, typmod, b, false, from)
		}
	}
	if h, ok := t.HashText(s); ok {
		return h, nil
	}
	if t == shardmap.KeyInt2 || t == shardmap.KeyInt4 {
		// Out of the column's range: no row has it, but the comparison is valid
		// where PostgreSQL infers a wider type.
		if h, ok := shardmap.KeyInt8.HashText(s); ok {
			return h, nil
		}
	}
	return v.Hash(t, typmod, b, false, from)
}

func textual(t shardmap.KeyType) bool {
	return t == shardmap.KeyText || t == shardmap.KeyVarchar || t == shardmap.KeyBpchar
}

// changes says whether storing a value under a type modifier may change it.
func (v *Values) changes(t shardmap.KeyType, typmod int32, b []byte, binary bool) bool {
	if typmod < 0 {
		return false
	}
	switch t {
	case shardmap.KeyVarchar:
		return utf8.RuneCount(b) > int(typmod)-4 && strings.HasSuffix(string(b), " ")
	case shardmap.KeyTimestamp, shardmap.KeyTimestamptz:
		return typmod < 6 && (binary || bytes.IndexByte(b, '.') >= 0)
	}
	return false
}

// StoredText is the text of a value as a column with a type modifier stores it,
// as far as only blanks are cut off.
func StoredText(t shardmap.KeyType, typmod int32, b []byte) []byte {
	if t != shardmap.KeyVarchar || typmod < 4 {
		return b
	}
	for n := utf8.RuneCount(b); n > int(typmod)-4 && b[len(b)-1] == ' '; n-- {
		b = b[:len(b)-1]
	}
	return b
}

// rounds says whether a column with a type modifier may store a time rounded.
func rounds(t shardmap.KeyType, typmod int32, b []byte) bool {
	if t != shardmap.KeyTimestamp && t != shardmap.KeyTimestamptz || typmod < 0 {
		return false
	}
	point := bytes.IndexByte(b, '.')
	if point < 0 {
		return false
	}
	digits := 0
	for _, c := range b[point+1:] {
		if c < '0' || c > '9' {
			break
		}
		digits++
	}
	return digits > int(typmod)
}

// maxArrayKeys bounds the elements of = ANY(array).
const maxArrayKeys = 1 << 20

// arraySlots computes the slots of key = ANY(array).
func (v *Values) arraySlots(p *planner.Pin, dst []shardmap.Slot) (SlotSet, *wire.Error) {
	set := SlotSet{Slots: dst[:0]}
	t := p.Types[0]
	add := func(b []byte, binary bool) *wire.Error {
		var h uint64
		var err *wire.Error
		switch {
		case !binary:
			h, err = v.hashText(t, -1, b, 0)
		case v.ASCIIOnly && textual(t) && !isASCII(b):
			h, err = v.Hash(t, -1, b, true, 0)
		default:
			var ok bool
			if h, ok = t.HashBinary(b); !ok {
				err = wire.Errorf("22P03", "incorrect binary data format in an array of keys")
			}
		}
		set.Slots = append(set.Slots, shardmap.SlotOf(h))
		return err
	}
	var text []byte
	switch p.Array.Source {
	case planner.FromLiteral:
		var ok bool
		if text, ok = v.Literals[p.Array.Index].AppendValue(nil, v.Text); !ok {
			return set, wire.Errorf("22P02", "the array of keys can't be read")
		}
	default:
		if v.Bind == nil || p.Array.Index >= len(v.Bind.Params) {
			return set, wire.Errorf("42P02", "there is no parameter $%d", p.Array.Index+1)
		}
		b, null := v.Bind.Param(p.Array.Index)
		if null {
			set.Nothing = true
			return set, nil
		}
		if v.Bind.ParamFormat(p.Array.Index) == wire.FormatBinary {
			err := eachBinaryElement(b, func(e []byte) *wire.Error { return add(e, true) })
			set.Nothing = len(set.Slots) == 0
			return set, err
		}
		text = b
	}
	err := eachTextElement(text, func(e []byte) *wire.Error { return v.placed(add(e, false), *p.Array) })
	set.Nothing = len(set.Slots) == 0
	return set, err
}

// eachBinaryElement calls f for the elements of an array in binary format that
// are not NULL (array_recv in arrayfuncs.c).
func eachBinaryElement(b []byte, f func([]byte) *wire.Error) *wire.Error {
	bad := wire.Errorf("22P03", "incorrect binary data format in an array of keys")
	if len(b) < 12 {
		return bad
	}
	dims := int(binary.BigEndian.Uint32(b))
	if dims == 0 {
		return nil
	}
	if dims < 0 || dims > 6 || len(b) < 12+8*dims {
		return bad
	}
	n := 1
	for i := range dims {
		d := int(int32(binary.BigEndian.Uint32(b[12+8*i:])))
		if d < 0 || d > maxArrayKeys || n*d > maxArrayKeys {
			return bad
		}
		n *= d
	}
	b = b[12+8*dims:]
	for range n {
		if len(b) < 4 {
			return bad
		}
		l := int(int32(binary.BigEndian.Uint32(b)))
		b = b[4:]
		if l < 0 {
			continue
		}
		if l > len(b) {
			return bad
		}
		if err := f(b[:l]); err != nil {
			return err
		}
		b = b[l:]
	}
	return nil
}

// arraySpace is what PostgreSQL takes for blank around elements (array_isspace in
// arrayfuncs.c).
const arraySpace = " \t\n\r\v\f"

// eachTextElement calls f for the elements of a one-dimensional array in text
// form that are not NULL. Other forms are refused.
func eachTextElement(b []byte, f func([]byte) *wire.Error) *wire.Error {
	bad := wire.Errorf(wire.FeatureNotSupported, "this form of array is not supported for keys").
		WithHint("Write it as {a,b,c}, or pass it in binary format.")
	s := bytes.Trim(b, arraySpace)
	if len(s) < 2 || s[0] != '{' || s[len(s)-1] != '}' {
		return bad
	}
	s = s[1 : len(s)-1]
	if len(bytes.Trim(s, arraySpace)) == 0 {
		return nil
	}
	for i := 0; i <= len(s); {
		var elem []byte
		for i < len(s) && strings.IndexByte(arraySpace, s[i]) >= 0 {
			i++
		}
		quoted := i < len(s) && s[i] == '"'
		if quoted {
			i++
			closed := false
			for ; i < len(s); i++ {
				if s[i] == '\\' && i+1 < len(s) {
					i++
				} else if s[i] == '"' {
					closed = true
					i++
					break
				}
				elem = append(elem, s[i])
			}
			for i < len(s) && strings.IndexByte(arraySpace, s[i]) >= 0 {
				i++
			}
			if !closed || i < len(s) && s[i] != ',' {
				return bad
			}
		} else {
			end := bytes.IndexByte(s[i:], ',')
			if end < 0 {
				end = len(s) - i
			}
			elem = bytes.TrimRight(s[i:i+end], arraySpace)
			if len(elem) == 0 || bytes.ContainsAny(elem, `{}"\`) {
				return bad
			}
			i += end
		}
		i++
		if !quoted && strings.EqualFold(string(elem), "null") {
			continue
		}
		if err := f(elem); err != nil {
			return err
		}
	}
	return nil
}

// SplitText writes the text of an INSERT with some of its rows only. rows are
// indexes into the plan's; with parameters, they are numbered anew from 1 and
// their old numbers, from 0, appended to params.
func SplitText(dst []byte, s *planner.Split, v *Values, rows []int, params []int) ([]byte, []int) {
	at := func(a sqltext.Anchor) int { return a.Offset(v.Literals) }
	dst = append(dst, v.Text[:at(s.HeadEnd)]...)
	number := func(n int) int {
		for i, p := range params {
			if p == n-1 {
				return i + 1
			}
		}
		params = append(params, n-1)
		return len(params)
	}
	piece := func(from, to int, refs []planner.ParamRef) {
		for _, p := range refs {
			o := at(p.At)
			dst = append(dst, v.Text[from:o]...)
			dst = append(dst, '$')
			dst = strconv.AppendInt(dst, int64(number(p.N)), 10)
			for from = o + 1; from < to && v.Text[from] >= '0' && v.Text[from] <= '9'; from++ {
			}
		}
		dst = append(dst, v.Text[from:to]...)
	}
	for i, n := range rows {
		if i > 0 {
			dst = append(dst, ',')
		}
		r := &s.Rows[n]
		piece(at(r.Start), at(r.End), r.Params)
	}
	piece(at(s.TailStart), len(v.Text), s.TailParams)
	return dst, params
}
