package shardmap

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5/pgconn"
)

// What HashText reads, and what it leaves to a shard. The server is asked whether
// what it reads is right; here is listed that it reads what clients send.
var textSamples = map[KeyType]struct{ read, left []string }{
	KeyInt2: {
		read: []string{"0", "1", "-1", "+1", "-0", "32767", "-32768", " 7", "7 ", "\t\n\v\f\r 7 \r", "00000000000000000000000000000007"},
		left: []string{"", " ", "+", "-", "--1", "+-1", "- 1", "32768", "-32769", "1.0", "1e1", "0x1", "1_0", "1 1", "a", "1a", "\x001", "\u00a01", "٣", "99999999999999999999"},
	},
	KeyInt4: {
		read: []string{"2147483647", "-2147483648"},
		left: []string{"2147483648", "-2147483649", ""},
	},
	KeyInt8: {
		read: []string{"9223372036854775807", "-9223372036854775808", "+00009223372036854775807"},
		left: []string{"9223372036854775808", "-9223372036854775809", "92233720368547758070", "18446744073709551616", "-"},
	},
	KeyText:    {read: []string{"", " ", "a", "é", "a ", `\`}, left: []string{"\x00", "a\x00"}},
	KeyVarchar: {read: []string{"", " ", "a", "é", "a ", `\`}, left: []string{"\x00", "a\x00"}},
	KeyBpchar:  {read: []string{"", " ", "a", "é", "a ", `\`, "a\t "}, left: []string{"\x00", "a\x00"}},
	KeyUUID: {
		read: []string{
			"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
			"{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}", "a0eebc999c0b4ef8bb6d6bb9bd380a11",
			"a0ee-bc99-9c0b-4ef8-bb6d-6bb9-bd38-0a11", "{a0eebc99-9c0b4ef8-bb6d6bb9-bd380a11}",
		},
		left: []string{
			"", "{", "}", "{}", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a1", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a111",
			"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11-", "-a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0-eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
			"a0eebc99--9c0b-4ef8-bb6d-6bb9bd380a11", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}",
			" a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11 ", "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
		},
	},
	KeyDate: {
		read: []string{"2000-01-01", "1999-12-31", "0001-01-01", "9999-12-31", "2024-02-29", "2000-02-29", "infinity", "-infinity"},
		left: []string{
			"", "0000-01-01", "2023-02-29", "1900-02-29", "2024-00-01", "2024-13-01", "2024-01-00", "2024-01-32", "2024-04-31",
			"2024-1-1", "24-01-01", "20240101", "2024/01/01", "01-02-2024", "2024-01-01 ", " 2024-01-01", "2024-01-01 BC",
			"10000-01-01", "2024-01-01 00:00", "today", "epoch", "Infinity", "+infinity", "inf", "2024-01-0x",
		},
	},
	KeyTimestamp: {
		read: []string{
			"2024-01-02", "2024-01-02 03:04", "2024-01-02T03:04:05", "2024-01-02 03:04:05.6", "2024-01-02 23:59:59.999999",
			"0001-01-01 00:00:00", "infinity", "-infinity",
		},
		left: []string{
			"", "2024-01-02 ", "2024-01-02T", "2024-01-02 03", "2024-01-02 3:04", "2024-01-02 24:00:00", "2024-01-02 03:60",
			"2024-01-02 03:04:60", "2024-01-02 03:04:05.", "2024-01-02 03:04:05.1234567", "2024-01-02 03:04:05Z",
			"2024-01-02 03:04:05+00", "2024-01-02  03:04", "2024-01-02 03:04:05 PM", "now", "2024-01-02t03:04:05",
		},
	},
	KeyTimestamptz: {
		read: []string{
			"2024-01-02 03:04+00", "2024-01-02T03:04:05Z", "2024-01-02 03:04:05.6-05:30", "2024-01-02 03:04:05.123456+15:59:59",
			"2024-01-02 03:04-15:59", "0001-01-01 00:00:00+14", "9999-12-31 23:59:59-14", "infinity", "-infinity",
		},
		left: []string{
			"", "2024-01-02", "2024-01-02 03:04:05", "2024-01-02 03:04:05 +00", "2024-01-02 03:04:05+0", "2024-01-02 03:04:05+0000",
			"2024-01-02 03:04:05+16", "2024-01-02 03:04:05+00:60", "2024-01-02 03:04:05+00:00:00:00", "2024-01-02 03:04:05z",
			"2024-01-02 03:04:05 UTC", "2024-01-02 03:04:05 Europe/Paris", "2024-01-02 03:04:05+00:", "2024-01-02+00", "2024-01-02Z",
		},
	},
	KeyBytea: {
		read: []string{"", `\x`, `\x00`, `\xDEADbeef`, "abc", "a b", "x41", `\x` + strings.Repeat("0123456789abcdef", 40)},
		left: []string{`\`, `\\`, `\001`, `a\\`, `\x0`, `\x 00`, `\x00 11`, `\xgg`, `\X00`, "a\x00", `\x` + strings.Repeat("00", 20) + "g0"},
	},
}

func TestHashTextSamples(t *testing.T) {
	for _, kt := range allKeyTypes {
		samples, ok := textSamples[kt]
		if !ok {
			t.Errorf("%v has no samples", kt)
		}
		for _, s := range samples.read {
			if _, ok := kt.HashText([]byte(s)); !ok {
				t.Errorf("%v: %q isn't read", kt, s)
			}
		}
		for _, s := range samples.left {
			if h, ok := kt.HashText([]byte(s)); ok {
				t.Errorf("%v: %q is read, and hashes to %x", kt, s, h)
			}
		}
	}
}

// Every session sets these differently, and HashText doesn't know of it.
var sessionSettings = []string{
	"datestyle = 'ISO, MDY'; SET timezone = 'UTC'",
	"datestyle = 'ISO, DMY'; SET timezone = 'Asia/Kathmandu'",
	"datestyle = 'ISO, YMD'; SET timezone = 'America/St_Johns'; SET timezone_abbreviations = 'India'",
	"datestyle = 'SQL, MDY'; SET timezone = 'Pacific/Apia'; SET timezone_abbreviations = 'Australia'",
	"datestyle = 'SQL, DMY'; SET timezone = '-13:37'; SET intervalstyle = 'sql_standard'",
	"datestyle = 'German, DMY'; SET timezone = 'Europe/Amsterdam'; SET intervalstyle = 'iso_8601'",
	"datestyle = 'Postgres, YMD'; SET timezone = 'Africa/Monrovia'; SET intervalstyle = 'postgres_verbose'",
	"datestyle = 'Postgres, DMY'; SET timezone = 'posix/Asia/Tokyo'; SET bytea_output = 'escape'",
}

// Whatever text HashText reads, the server must read too, and the same in it.
func TestHashTextOddInputs(t *testing.T) {
	rng := seeded(t)
	c := connect(t)
	type odd struct {
		texts  [][]byte
		hashes []uint64
	}
	odds := map[KeyType]odd{}
	for _, kt := range allKeyTypes {
		var o odd
		samples := append(textSamples[kt].read, textSamples[kt].left...)
		take := func(s []byte) {
			if h, ok := kt.HashText(s); ok {
				o.texts, o.hashes = append(o.texts, s), append(o.hashes, h)
			}
		}
		for _, s := range samples {
			take([]byte(s))
		}
		for range 15000 {
			// What isn't valid in the encoding doesn't reach the type's input function.
			if s := oddText(kt, samples, rng); utf8.Valid(s) {
				take(s)
			}
		}
		if len(o.texts) < 1000 {
			t.Errorf("%v: only %d texts were read", kt, len(o.texts))
		}
		t.Logf("%v: %d texts", kt, len(o.texts))
		odds[kt] = o
	}
	for _, settings := range sessionSettings {
		mustRun(t, c, "SET "+settings)
		for _, kt := range allKeyTypes {
			o := odds[kt]
			hashes, err := hashTexts(t, c, kt, o.texts)
			if err != nil {
				t.Errorf("%v, %s: %q is read, but the server says: %v", kt, settings, refused(t, c, kt, o.texts), err)
				continue
			}
			for i, want := range hashes {
				if want != o.hashes[i] {
					t.Errorf("%v, %s: text %q hashes to %x, the server says %x", kt, settings, o.texts[i], o.hashes[i], want)
					break
				}
			}
		}
	}
}

// hashTexts returns the server's hashes of texts that its input function reads.
func hashTexts(t *testing.T, c *pgconn.PgConn, kt KeyType, texts [][]byte) ([]uint64, error) {
	sql := fmt.Sprintf("SELECT hash_record_extended(ROW(v::%s), 0) FROM unnest($1::text[]) WITH ORDINALITY u(v, n) ORDER BY n", kt.SQLName())
	rows, err := ask(t.Context(), c, sql, binaryArray(KeyText, texts))
	hashes := make([]uint64, len(rows))
	for i, row := range rows {
		hashes[i] = binary.BigEndian.Uint64(row[0])
	}
	return hashes, err
}

// refused finds a text that the server doesn't read.
func refused(t *testing.T, c *pgconn.PgConn, kt KeyType, texts [][]byte) []byte {
	for len(texts) > 1 {
		half := len(texts) / 2
		if _, err := hashTexts(t, c, kt, texts[:half]); err != nil {
			texts = texts[:half]
		} else {
			texts = texts[half:]
		}
	}
	return texts[0]
}

// oddText is a text that resembles one of the type.
func oddText(kt KeyType, samples []string, rng *rand.Rand) []byte {
	s := []byte(samples[rng.IntN(len(samples))])
	digits := func() {
		for i := range s {
			if '0' <= s[i] && s[i] <= '9' && rng.IntN(3) == 0 {
				s[i] = '0' + byte(rng.IntN(10))
			}
		}
	}
	switch kt {
	case KeyDate, KeyTimestamp, KeyTimestamptz:
		s = fmt.Appendf(nil, "%04d-%02d-%02d", rng.IntN(10001), rng.IntN(14), rng.IntN(33))
		if kt != KeyDate && rng.IntN(10) > 0 {
			s = fmt.Appendf(s, "%c%02d:%02d", " T"[rng.IntN(2)], rng.IntN(25), rng.IntN(61))
			if rng.IntN(4) > 0 {
				s = fmt.Appendf(s, ":%02d", rng.IntN(61))
				if rng.IntN(2) > 0 {
					s = fmt.Appendf(s, ".%0*d", 1+rng.IntN(6), rng.IntN(10))
					digits()
				}
			}
		}
		if kt == KeyTimestamptz && rng.IntN(10) > 0 {
			s = append(s, []string{"Z", "+00", "-00", "+05:30", "-11:45", "+14", "+15:59:59", "-02:00:01", "+1", "-0330"}[rng.IntN(10)]...)
		}
	case KeyBytea:
		if rng.IntN(2) == 0 {
			s = append([]byte(`\x`), hex.EncodeToString(randomString(rng))...)
		} else {
			s = randomString(rng)
		}
	case KeyText, KeyVarchar, KeyBpchar:
		return randomString(rng)
	default:
		digits()
	}
	const alphabet = "0123456789--::..++  TZ\t\nabefxX{}\\_,/BCAD"
	for range rng.IntN(3) {
		at := rng.IntN(len(s) + 1)
		char := alphabet[rng.IntN(len(alphabet))]
		switch {
		case rng.IntN(2) == 0 || at == len(s):
			s = bytes.Join([][]byte{s[:at], s[at:]}, []byte{char})
		case rng.IntN(2) == 0:
			s[at] = char
		default:
			s = append(s[:at], s[at+1:]...)
		}
	}
	return s
}

// FuzzHashText compares with Go's own parsers, which take more, but read nothing
// else in what both take.
func FuzzHashText(f *testing.F) {
	for kt, samples := range textSamples {
		for _, s := range append(samples.read, samples.left...) {
			f.Add(uint8(kt), []byte(s))
		}
	}
	epoch := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, kind uint8, s []byte) {
		kt := KeyType(kind)
		given := bytes.Clone(s)
		got, ok := kt.HashText(s)
		if !bytes.Equal(s, given) {
			t.Fatal("the text was changed")
		}
		if !ok {
			return
		}
		var want uint64
		switch text := string(s); kt {
		case KeyInt2, KeyInt4, KeyInt8:
			n, err := strconv.ParseInt(strings.Trim(text, " \t\n\v\f\r"), 10, map[KeyType]int{KeyInt2: 16, KeyInt4: 32, KeyInt8: 64}[kt])
			if err != nil {
				t.Fatal(err)
			}
			want = HashInt64(n)
		case KeyText, KeyVarchar:
			want = HashBytes(s)
		case KeyBpchar:
			want = HashBytes([]byte(strings.TrimRight(text, " ")))
		case KeyBytea:
			if digits, ok := strings.CutPrefix(text, `\x`); ok {
				b, err := hex.DecodeString(digits)
				if err != nil {
					t.Fatal(err)
				}
				s = b
			}
			want = HashBytes(s)
		case KeyUUID:
			b, err := hex.DecodeString(strings.NewReplacer("{", "", "}", "", "-", "").Replace(text))
			if err != nil || len(b) != 16 {
				t.Fatalf("%d octets, %v", len(b), err)
			}
			want = HashBytes(b)
		case KeyDate, KeyTimestamp, KeyTimestamptz:
			if infinitySign(s) != 0 {
				return
			}
			at, err := parseWithGo(kt, text)
			if err != nil {
				t.Fatal(err)
			}
			// Not a time.Duration, which holds 292 years.
			n := (at.Unix()-epoch.Unix())*microsPerSecond + int64(at.Nanosecond()/1000)
			if kt == KeyDate {
				n /= microsPerDay
			}
			want = HashInt64(n)
		}
		if got != want {
			t.Fatalf("%v: %q hashes to %x, not %x", kt, s, got, want)
		}
	})
}

// parseWithGo tries the layouts of what HashText reads.
func parseWithGo(kt KeyType, s string) (time.Time, error) {
	s = strings.Replace(s, "T", " ", 1)
	layouts := []string{"2006-01-02"}
	switch kt {
	case KeyTimestamp:
		layouts = []string{"2006-01-02", "2006-01-02 15:04", "2006-01-02 15:04:05"}
	case KeyTimestamptz:
		layouts = nil
		for _, zone := range []string{"Z07", "Z07:00", "Z07:00:00"} {
			layouts = append(layouts, "2006-01-02 15:04"+zone, "2006-01-02 15:04:05"+zone)
		}
	}
	var at time.Time
	var err error
	for _, layout := range layouts {
		if at, err = time.Parse(layout, s); err == nil {
			return at, nil
		}
	}
	return at, err
}
