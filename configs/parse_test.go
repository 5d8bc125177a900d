package configs

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

const minimal = "shards: [{name: s1, servers: [\"postgres://app@pg1/app\"]}]\n"

func TestLoad(t *testing.T) {
	folder := t.TempDir()
	path := filepath.Join(folder, "a.yaml")
	data := minimal + "tls: {mode: require, cert: tls/cert.pem, key: /etc/key.pem}\n"
	if err := os.WriteFile(path, []byte(data), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(folder, "tls/cert.pem"); c.TLS.Cert != want || c.TLS.Key != "/etc/key.pem" {
		t.Errorf("TLS files %q and %q, want %q and /etc/key.pem", c.TLS.Cert, c.TLS.Key, want)
	}
	if p := c.Shards[0].Pos; p.File != path || p.Line != 1 || p.Column != 10 {
		t.Errorf("the shard is at %v", p)
	}

	missing := filepath.Join(folder, "missing.yaml")
	_, err = Load(missing)
	if want := missing + ": can't be read: no such file or directory"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
	if _, err := LoadWithoutShards(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestDev(t *testing.T) {
	if _, err := Parse("dev.yaml", Dev()); err == nil || !strings.Contains(err.Error(), "shards is missing") {
		t.Errorf("dev.yaml has shards, or Parse doesn't need any: %v", err)
	}
	c, err := ParseWithoutShards("dev.yaml", Dev())
	if err != nil {
		t.Fatal(err)
	}
	if c.HomeShard() != -1 || c.Shards != nil || c.Warnings != nil {
		t.Errorf("shards %v, warnings %v", c.Shards, c.Warnings)
	}
	groups := make(map[string]string)
	for table, key := range map[string]string{"pgbench_accounts": "aid", "pgbench_history": "aid", "pgbench_tellers": "tid", "pgbench_branches": "bid"} {
		rule, ok := c.Rule("public", table)
		if !ok || len(rule.Key) != 1 || rule.Key[0] != key || len(rule.KeyPos) != 1 {
			t.Fatalf("%s: %+v, %v", table, rule, ok)
		}
		groups[table] = rule.GroupOf("public", table)
	}
	if groups["pgbench_accounts"] != groups["pgbench_history"] || groups["pgbench_tellers"] == groups["pgbench_branches"] {
		t.Errorf("groups %v", groups)
	}
}

// TestDefaultsAreWithinBounds also makes every bound and default be read, so
// that none of them can panic later.
func TestDefaultsAreWithinBounds(t *testing.T) {
	walkKeys(reflect.TypeFor[Config](), "", func(_ reflect.Type, f *field, path string) {
		if f.isSection() || f.isList() {
			return
		}
		d := &decoder{}
		numeric := f.typ.Kind() == reflect.Int || f.typ.Kind() == reflect.Int64
		if numeric && (f.min == "" || f.max == "" || !f.hasDef) {
			t.Errorf("%s lacks a bound or a default", path)
		}
		for _, text := range []string{f.def, f.min, f.max} {
			if text == "" {
				continue
			}
			if message, _ := d.assign(reflect.New(f.typ).Elem(), f, text); message != "" {
				t.Errorf("%s: %q %s", path, text, message)
			}
		}
	})
	c := Default()
	if c.Pool.Size != 40 || c.Timeouts.Shutdown != 30*time.Second || c.Limits.MessageBytes != GiB || c.Auth.Method != AuthTrust || c.Log.SlogLevel() != slog.LevelInfo {
		t.Errorf("defaults: %+v", c)
	}
}

func TestTooLarge(t *testing.T) {
	for name, data := range map[string]string{
		"bytes":    minimal + strings.Repeat("# long\n", maxFileBytes/7+1),
		"brackets": strings.Repeat("[", maxFileBytes/4),
		"dashes":   strings.Repeat("- ", maxFileBytes/8),
		"keys":     strings.Repeat("? ", maxFileBytes/8),
		"mappings": strings.Repeat("{a: ", 10000),
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			_, err := Parse("large.yaml", []byte(data))
			if err == nil {
				t.Fatal("accepted")
			}
			checkErrors(t, err, data)
			if took := time.Since(start); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
	}
}

func TestManyErrors(t *testing.T) {
	data := minimal + "tables:\n" + strings.Repeat("  - {name: a}\n", 5000)
	_, err := Parse("many.yaml", []byte(data))
	var all Errors
	if !errors.As(err, &all) || len(all) != maxErrors+1 || !strings.HasSuffix(all[maxErrors].Message, "more errors") {
		t.Errorf("%d errors, the last is %v", len(all), all[len(all)-1])
	}
}

func TestEncodings(t *testing.T) {
	for name, data := range map[string]string{
		"byte order mark": "\ufeff" + minimal,
		"CRLF":            strings.ReplaceAll(minimal+"pool:\n  size: 3\n", "\n", "\r\n"),
	} {
		c, err := Parse("a.yaml", []byte(data))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if name == "CRLF" && (c.Position("pool.size").Line != 3 || c.Position("pool.size").Column != 9) {
			t.Errorf("%s: %v", name, c.Position("pool.size"))
		}
	}
	_, err := Parse("a.yaml", []byte("listen: x\nb: ä\xff"))
	if want := "a.yaml:2:5: not valid UTF-8\n    hint: save the file as UTF-8"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestErrorsUnwrap(t *testing.T) {
	_, err := Parse("a.yaml", []byte("a: 1\nb: 2\n"))
	var one *Error
	if !errors.As(err, &one) || one.Line != 1 || one.Hint == "" {
		t.Errorf("got %+v from %v", one, err)
	}
}

func TestBytes(t *testing.T) {
	for text, want := range map[string]Bytes{
		"0": 0, "1": 1, "67108864": 64 * MiB, "64MiB": 64 * MiB, "64 MiB": 64 * MiB, "1GiB": GiB, "3KiB": 3 * KiB, "7B": 7, "-1KiB": -KiB,
	} {
		if have, err := parseBytes(text); err != nil || have != want {
			t.Errorf("%q: got %v, %v", text, have, err)
		}
	}
	for _, text := range []string{"", "B", "MiB", "1MB", "1M", "1.5MiB", "+1", "1 2", "0x1", "8589934592GiB", "9223372036854775808", "1MiBB", "1TiB"} {
		if have, err := parseBytes(text); err == nil {
			t.Errorf("%q is taken for %v", text, have)
		}
	}
	for b, want := range map[Bytes]string{0: "0B", 1: "1B", 1023: "1023B", KiB: "1KiB", 1025: "1025B", 64 * MiB: "64MiB", 2 * GiB: "2GiB", -MiB: "-1MiB"} {
		if b.String() != want {
			t.Errorf("%d: got %s, want %s", int64(b), b, want)
		}
	}
}

func TestEditDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"size", "size", 0}, {"szie", "size", 1}, {"pools", "pool", 1}, {"wieght", "weight", 1},
		{"kitten", "sitting", 3}, {strings.Repeat("a", 65), "a", maxSuggestBytes}} {
		if have := editDistance(c.a, c.b); have != c.want {
			t.Errorf("%s, %s: got %d, want %d", c.a, c.b, have, c.want)
		}
		if editDistance(c.a, c.b) != editDistance(c.b, c.a) {
			t.Errorf("%s, %s: not symmetric", c.a, c.b)
		}
	}
}

// everyPrint prints a value in the ways in which one slips into a log.
func everyPrint(v any) string {
	asJSON, _ := json.Marshal(v)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "v", v)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("m", "v", v)
	return fmt.Sprintf("%v %+v %#v %s %q %x", v, v, v, v, v, v) + string(asJSON) + log.String()
}

func TestSecretsDoNotPrint(t *testing.T) {
	c, err := Parse("a.yaml", []byte(`
shards:
  - {name: s1, servers: ["postgres://app:hunter2@pg1/app?sslpassword=hunter2&sslmode=require"]}
auth: {method: scram-sha-256, users: [{name: app, password: hunter2}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if u := string(c.Shards[0].Servers[0]); !strings.HasPrefix(u, "postgres://app:hunter2@pg1/app") {
		t.Errorf("the URL has become %s", u)
	}
	if c.Shards[0].Servers[0].Database() != "app" || string(c.Auth.Users[0].Password) != "hunter2" {
		t.Error("the password or the database is lost")
	}
	for _, v := range []any{c, *c, c.Shards, c.Shards[0].Servers[0], c.Auth, c.Auth.Users[0].Password, ServerURL("postgres://app:a/hunter2@pg1/app"), ServerURL("hunter2")} {
		if s := everyPrint(v); strings.Contains(s, "hunter2") || strings.Contains(s, fmt.Sprintf("%x", "hunter2")) {
			t.Errorf("%T prints as %s", v, s)
		}
	}
	if s := Secret("").String(); s != "" {
		t.Errorf("the empty secret prints as %s", s)
	}
}

// TestErrorsDoNotLeak damages a file with passwords at random places and looks
// for them in what Parse says about it.
func TestErrorsDoNotLeak(t *testing.T) {
	const file = `shards:
  - name: s1
    servers: ["postgres://app:hunter2@pg1:5432/app?sslmode=require"]
  - {name: s2, servers: ["postgres://app:hunter2@pg2:5432/app"]}
auth:
  method: scram-sha-256
  users:
    - {name: app, password: "hunter2"}
    - name: report
      password: hunter2
`
	const damage = "\"'{}[]:,#&*!|>%@/? \n\t-$a1\\"
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for range 10000 {
		data := []byte(file)
		for range 1 + random.IntN(2) {
			i, c := random.IntN(len(data)), damage[random.IntN(len(damage))]
			switch random.IntN(3) {
			case 0:
				data[i] = c
			case 1:
				data = append(data[:i], data[i+1:]...)
			default:
				data = append(data[:i], append([]byte{c}, data[i:]...)...)
			}
		}
		_, err := Parse("a.yaml", data)
		if err == nil {
			continue
		}
		checkErrors(t, err, string(data))
		if strings.Contains(err.Error(), "hunter") {
			t.Fatalf("seed %d: %v\nof\n%s", seed, err, data)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"*.yaml", "testdata/golden/*.txt"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			// The cases of a golden file, each for itself.
			for _, part := range strings.Split(string(data), "\n----\n") {
				_, input, found := strings.Cut("\n"+part, "\nparse\n")
				if !found {
					input = part
				}
				f.Add([]byte(input))
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, o := range []options{{}, {withoutShards: true}} {
			c, err := parse("fuzz.yaml", data, o)
			if (c == nil) == (err == nil) {
				t.Fatalf("a Config and an error, or neither: %v", err)
			}
			if err != nil {
				checkErrors(t, err, string(data))
				continue
			}
			if home := c.HomeShard(); !o.withoutShards && home < 0 {
				t.Fatal("no home shard")
			}
			for i := range c.Tables {
				rule, ok := c.Rule(c.Tables[i].Schema, c.Tables[i].Table)
				if !ok || rule != &c.Tables[i] || len(rule.KeyPos) != len(rule.Key) {
					t.Fatalf("the rule %v is not found by its own name", c.Tables[i])
				}
			}
		}
	})
}
