package tpch

import (
	"strconv"
	"time"
)

// row appends one row's columns in the text format of COPY. No value has a character in
// it that would have to be escaped.
type row struct {
	b     []byte
	begun bool
}

func (w *row) column() {
	if w.begun {
		w.b = append(w.b, '\t')
	}
	w.begun = true
}

func (w *row) end() { w.b, w.begun = append(w.b, '\n'), false }

func (w *row) number(n int) {
	w.column()
	w.b = strconv.AppendInt(w.b, int64(n), 10)
}

func (w *row) text(s string) {
	w.column()
	w.b = append(w.b, s...)
}

// name is such as Supplier#000000001.
func (w *row) name(what string, n int) {
	w.text(what)
	w.b = append(w.b, '#')
	w.padded(n, 9)
}

func (w *row) padded(n, digits int) {
	for p := digits - 1; p >= 0; p-- {
		w.b = append(w.b, byte('0'+n/pow10[p]%10))
	}
}

var pow10 = [...]int{1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000}

// cents is an amount with two digits after the point.
func (w *row) cents(n int) {
	w.column()
	if n < 0 {
		w.b = append(w.b, '-')
		n = -n
	}
	w.b = append(strconv.AppendInt(w.b, int64(n/100), 10), '.')
	w.padded(n%100, 2)
}

func (w *row) comment(d *Data, r *random, least, greatest int) {
	w.column()
	w.b = d.comment(w.b, r, least, greatest)
}

func (w *row) address(r *random) {
	w.column()
	w.b = address(w.b, r)
}

// phone begins with the country's code (4.2.2.9).
func (w *row) phone(r *random, nation int) {
	w.number(nation + 10)
	for _, digits := range [...]int{3, 3, 4} {
		w.b = append(w.b, '-')
		w.padded(r.between(pow10[digits-1], pow10[digits]-1), digits)
	}
}

// Dates are numbers of days from the first one on (4.2.2.12).
var (
	firstDate   = time.Date(1992, 1, 1, 0, 0, 0, 0, time.UTC)
	lastDay     = dayOf(time.Date(1998, 12, 31, 0, 0, 0, 0, time.UTC))
	currentDay  = dayOf(time.Date(1995, 6, 17, 0, 0, 0, 0, time.UTC))
	datesInText = func() (text []string) {
		for day := range lastDay + 1 {
			text = append(text, firstDate.AddDate(0, 0, day).Format(time.DateOnly))
		}
		return text
	}()
)

func dayOf(t time.Time) int { return int(t.Sub(firstDate) / (24 * time.Hour)) }

func (w *row) date(day int) { w.text(datesInText[day]) }
