package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// line is one of a file: a header first, then faults and transactions.
type line struct {
	Header *Header `json:"header,omitempty"`
	Fault  *Fault  `json:"fault,omitempty"`
	Txn    *Txn    `json:"txn,omitempty"`
}

// Encode writes the history, an object of JSON in each line.
func (h *History) Encode(w io.Writer) error {
	to := bufio.NewWriter(w)
	e := json.NewEncoder(to)
	if err := e.Encode(line{Header: &h.Header}); err != nil {
		return err
	}
	for i := range h.Faults {
		if err := e.Encode(line{Fault: &h.Faults[i]}); err != nil {
			return err
		}
	}
	for _, t := range h.Txns {
		if err := e.Encode(line{Txn: t}); err != nil {
			return err
		}
	}
	return to.Flush()
}

// Decode reads what Encode wrote.
func Decode(r io.Reader) (*History, error) {
	d := json.NewDecoder(bufio.NewReaderSize(r, 1<<20))
	h := &History{}
	for n := 1; ; n++ {
		var l line
		err := d.Decode(&l)
		switch {
		case errors.Is(err, io.EOF) && n > 1:
			return h, nil
		case err != nil:
			return nil, fmt.Errorf("line %d: %w", n, err)
		case n == 1 && l.Header == nil:
			return nil, errors.New("line 1: no header: not a history")
		case l.Header != nil:
			h.Header = *l.Header
		case l.Fault != nil:
			h.Faults = append(h.Faults, *l.Fault)
		case l.Txn != nil:
			h.Txns = append(h.Txns, l.Txn)
		default:
			return nil, fmt.Errorf("line %d is neither header nor fault nor transaction", n)
		}
	}
}
