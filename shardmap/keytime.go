package shardmap

import "math"

const (
	microsPerSecond = 1_000_000
	microsPerDay    = 86_400 * microsPerSecond
)

// infinitySign returns 1 for "infinity", -1 for "-infinity" and else 0. The other
// spellings that PostgreSQL takes differ between its versions.
func infinitySign(s []byte) int {
	switch string(s) {
	case "infinity":
		return 1
	case "-infinity":
		return -1
	}
	return 0
}

// hashDateText reads an ISO 8601 date. Its four-digit year comes first, so that no
// DateStyle reads it otherwise.
func hashDateText(s []byte, seed uint64) (uint64, bool) {
	// DATEVAL_NOEND and DATEVAL_NOBEGIN in PostgreSQL's date.h.
	switch infinitySign(s) {
	case 1:
		return hashInt64(math.MaxInt32, seed), true
	case -1:
		return hashInt64(math.MinInt32, seed), true
	}
	days, rest, ok := parseDate(s)
	if !ok || len(rest) != 0 {
		return 0, false
	}
	return hashInt64(days, seed), true
}

// hashTimestampText reads an ISO 8601 timestamp, with an offset from UTC if zoned.
func hashTimestampText(s []byte, zoned bool, seed uint64) (uint64, bool) {
	// DT_NOEND and DT_NOBEGIN in PostgreSQL's timestamp.h.
	switch infinitySign(s) {
	case 1:
		return hashInt64(math.MaxInt64, seed), true
	case -1:
		return hashInt64(math.MinInt64, seed), true
	}
	days, s, ok := parseDate(s)
	if !ok {
		return 0, false
	}
	micros := days * microsPerDay
	if len(s) > 0 || zoned {
		var time, offset int64
		if time, s, ok = parseTime(s); !ok {
			return 0, false
		}
		if zoned {
			if offset, s, ok = parseOffset(s); !ok {
				return 0, false
			}
		}
		micros += time - offset*microsPerSecond
	}
	if len(s) != 0 {
		return 0, false
	}
	return hashInt64(micros, seed), true
}

// twoDigits reads the two digits that s begins with.
func twoDigits(s []byte) (int, bool) {
	if len(s) < 2 || s[0]-'0' > 9 || s[1]-'0' > 9 {
		return 0, false
	}
	return int(s[0]-'0')*10 + int(s[1]-'0'), true
}

// parseDate reads YYYY-MM-DD and returns the days since 2000-01-01 and what
// follows. The Gregorian calendar is used for all years, as in PostgreSQL. There
// is no year 0.
func parseDate(s []byte) (days int64, rest []byte, ok bool) {
	if len(s) < 10 || s[4] != '-' || s[7] != '-' {
		return 0, nil, false
	}
	century, ok1 := twoDigits(s)
	year, ok2 := twoDigits(s[2:])
	month, ok3 := twoDigits(s[5:])
	day, ok4 := twoDigits(s[8:])
	year += century * 100
	if !ok1 || !ok2 || !ok3 || !ok4 || year == 0 || month < 1 || month > 12 ||
		day < 1 || day > daysInMonth(year, month) {
		return 0, nil, false
	}
	// Years are counted from March, so that the leap day ends one; then the months'
	// lengths follow from a linear formula.
	if month < 3 {
		year--
		month += 12
	}
	n := 365*year + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1
	const epoch = 730425 // n of 2000-01-01
	return int64(n - epoch), s[10:], true
}

func daysInMonth(year, month int) int {
	switch month {
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// parseTime reads { |T}HH:MM[:SS[.f{1,6}]] and returns microseconds and what
// follows. 24:00 and leap seconds, which PostgreSQL takes, are left to it.
func parseTime(s []byte) (micros int64, rest []byte, ok bool) {
	if len(s) < 6 || s[0] != ' ' && s[0] != 'T' || s[3] != ':' {
		return 0, nil, false
	}
	hour, ok1 := twoDigits(s[1:])
	minute, ok2 := twoDigits(s[4:])
	if !ok1 || !ok2 || hour > 23 || minute > 59 {
		return 0, nil, false
	}
	micros = int64(hour*60+minute) * 60 * microsPerSecond
	s = s[6:]
	if len(s) == 0 || s[0] != ':' {
		return micros, s, true
	}
	second, ok := twoDigits(s[1:])
	if !ok || second > 59 {
		return 0, nil, false
	}
	micros += int64(second) * microsPerSecond
	s = s[3:]
	if len(s) == 0 || s[0] != '.' {
		return micros, s, true
	}
	s = s[1:]
	digits := 0
	for unit := int64(microsPerSecond / 10); digits < len(s) && s[digits]-'0' <= 9; digits++ {
		if unit == 0 { // a seventh digit: rounding is PostgreSQL's business
			return 0, nil, false
		}
		micros += int64(s[digits]-'0') * unit
		unit /= 10
	}
	return micros, s[digits:], digits > 0
}

// parseOffset reads Z or {+|-}HH[:MM[:SS]] and returns the seconds east of UTC and
// what follows. PostgreSQL's limit is below 16 hours (MAX_TZDISP_HOUR).
func parseOffset(s []byte) (seconds int64, rest []byte, ok bool) {
	if len(s) == 0 {
		return 0, nil, false
	}
	sign := int64(1)
	switch s[0] {
	case 'Z':
		return 0, s[1:], true
	case '-':
		sign = -1
	case '+':
	default:
		return 0, nil, false
	}
	s = s[1:]
	limit := 15
	for unit := int64(3600); ; unit /= 60 {
		v, ok := twoDigits(s)
		if !ok || v > limit {
			return 0, nil, false
		}
		seconds += int64(v) * unit
		limit = 59
		s = s[2:]
		if unit == 1 || len(s) == 0 || s[0] != ':' {
			return sign * seconds, s, true
		}
		s = s[1:]
	}
}
