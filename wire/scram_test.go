package wire

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/xdg-go/scram"
)

// initialResponse makes the body of a SASLInitialResponse.
func initialResponse(mechanism, data string) []byte {
	n := len(data)
	return append(append([]byte(mechanism), 0, 0, 0, byte(n>>8), byte(n)), data...)
}

// challenge takes the data out of an AuthenticationSASLContinue or SASLFinal.
func challenge(t *testing.T, message []byte, code byte) string {
	t.Helper()
	if len(message) < 9 || message[0] != 'R' || message[8] != code {
		t.Fatalf("not the Authentication message %d: %q", code, message)
	}
	return string(message[9:])
}

func mustVerifier(t *testing.T, a *Authenticator, user, password string) *Verifier {
	t.Helper()
	v, err := a.Verifier(user, password)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// logIn runs a whole exchange with the client of the scram package, which
// normalises by its own SASLprep, and returns the server's last word.
func logIn(t *testing.T, c *Conversation, password string, advertise bool) error {
	t.Helper()
	client, err := scram.SHA256.NewClient("ignored", password, "")
	if err != nil {
		t.Fatal(err)
	}
	conv := client.NewConversation()
	if advertise {
		conv = client.NewConversationAdvertisingChannelBinding()
	}
	message, _ := conv.Step("")
	out, done, err := c.Step(nil, initialResponse(ScramSHA256, message))
	if err != nil || done {
		t.Fatalf("first step: %v %v", done, err)
	}
	message, err = conv.Step(challenge(t, out, authSASLContinue))
	if err != nil {
		t.Fatal(err)
	}
	out, done, err = c.Step([]byte("kept"), []byte(message))
	if !bytes.HasPrefix(out, []byte("kept")) || done != (err == nil) {
		t.Fatalf("%q %v %v", out, done, err)
	}
	if err == nil {
		if _, err := conv.Step(challenge(t, out[4:], authSASLFinal)); err != nil || !conv.Valid() {
			t.Fatalf("the client refuses the server: %v", err)
		}
	}
	return err
}

func TestScram(t *testing.T) {
	a := NewAuthenticator(nil, 0)
	v := mustVerifier(t, a, "u", "pencil")
	for _, advertise := range []bool{false, true} { // the flags n and y
		if err := logIn(t, a.Begin("u", v), "pencil", advertise); err != nil {
			t.Error(err)
		}
	}
	for _, c := range []*Conversation{a.Begin("u", v), a.Begin("u", nil)} {
		e := AsError(logIn(t, c, "wrong", false))
		if e == nil || e.Code != InvalidPassword || !e.IsFatal() || e.Message != `password authentication failed for user "u"` {
			t.Errorf("%v", e)
		}
		if _, _, err := c.Step(nil, []byte("more")); err == nil {
			t.Error("went on after a failure")
		}
	}
	done := a.Begin("u", v)
	if err := logIn(t, done, "pencil", false); err != nil {
		t.Error(err)
	}
	if _, again, err := done.Step(nil, []byte("more")); err == nil || again {
		t.Error("went on after the end")
	}
}

// TestScramUnknownUser checks that an unknown user is asked the same questions
// as a known one, whatever the client says, and never gets in.
func TestScramUnknownUser(t *testing.T) {
	a := NewAuthenticator([]byte("secret"), 0)
	known := mustVerifier(t, a, "known", "pencil")
	ask := func(a *Authenticator, user string, v *Verifier) (nonce, factors string) {
		out, _, err := a.Begin(user, v).Step(nil, initialResponse(ScramSHA256, "n,,n=,r=abc"))
		if err != nil {
			t.Fatal(err)
		}
		nonce, factors, _ = strings.Cut(challenge(t, out, authSASLContinue), ",")
		return nonce, factors
	}
	nonce1, factors1 := ask(a, "unknown", nil)
	nonce2, factors2 := ask(a, "unknown", nil)
	nonceKnown, factorsKnown := ask(a, "known", known)
	if nonce1 == nonce2 || !strings.HasPrefix(nonce1, "r=abc") || len(nonce1) != len(nonceKnown) {
		t.Error("nonces:", nonce1, nonce2)
	}
	if factors1 != factors2 || len(factors1) != len(factorsKnown) || factors1 == factorsKnown || !strings.HasSuffix(factors1, ",i=4096") {
		t.Error("factors:", factors1, factors2, factorsKnown)
	}
	if _, f := ask(a, "known", nil); f != factorsKnown {
		t.Error("a user with a plain password that is taken away gets another salt")
	}
	if _, f := ask(NewAuthenticator(nil, 0), "unknown", nil); f == factors1 {
		t.Error("the salt does not depend on the secret")
	}
	if _, f := ask(NewAuthenticator([]byte("secret"), 0), "unknown", nil); f != factors1 {
		t.Error("gateways with the same secret differ")
	}

	// Whoever knew the mock verifier's keys would still not get in.
	c := a.Begin("unknown", nil)
	c.conv = a.Begin("known", known).conv
	if e := AsError(logIn(t, c, "pencil", false)); e == nil || e.Code != InvalidPassword {
		t.Errorf("doomed, and yet: %v", e)
	}
}

func TestScramWithoutInitialResponse(t *testing.T) {
	a := NewAuthenticator(nil, 0)
	c := a.Begin("u", nil)
	out, done, err := c.Step(nil, []byte(ScramSHA256+"\x00\xff\xff\xff\xff"))
	if err != nil || done || challenge(t, out, authSASLContinue) != "" {
		t.Fatalf("%q %v %v", out, done, err)
	}
	if out, _, err = c.Step(nil, []byte("y,,n=,r=abc")); err != nil || !strings.HasPrefix(challenge(t, out, authSASLContinue), "r=abc") {
		t.Errorf("%q %v", out, err)
	}
}

func TestScramRefuses(t *testing.T) {
	a := NewAuthenticator(nil, 0)
	first := func(data string) [][]byte { return [][]byte{initialResponse(ScramSHA256, data)} }
	second := func(data string) [][]byte { return [][]byte{initialResponse(ScramSHA256, "n,,n=,r=abc"), []byte(data)} }
	for _, c := range []struct {
		name          string
		bodies        [][]byte
		code, message string
	}{
		{"empty body", [][]byte{{}}, ProtocolViolation, "invalid string in message"},
		{"no length", [][]byte{[]byte(ScramSHA256 + "\x00")}, ProtocolViolation, "insufficient data left in message"},
		{"length -2", [][]byte{[]byte(ScramSHA256 + "\x00\xff\xff\xff\xfe")}, ProtocolViolation, "insufficient data left in message"},
		{"short data", [][]byte{[]byte(ScramSHA256 + "\x00\x00\x00\x00\x09n")}, ProtocolViolation, "insufficient data left in message"},
		{"bytes behind", [][]byte{[]byte(ScramSHA256 + "\x00\x00\x00\x00\x00n")}, ProtocolViolation, "invalid message format"},
		{"too long", [][]byte{make([]byte, MaxSASLMessageBytes+1)}, ProtocolViolation, "SASL message of 1025 bytes is too long"},
		{"plus", [][]byte{initialResponse("SCRAM-SHA-256-PLUS", "p=tls-server-end-point,,n=,r=abc")}, ProtocolViolation, "client selected an invalid SASL authentication mechanism"},
		{"binding", first("p=tls-server-end-point,,n=,r=abc"), ProtocolViolation, "malformed SCRAM message"},
		{"empty", first(""), ProtocolViolation, "malformed SCRAM message"},
		{"NUL", first("n,,n=,r=a\x00c"), ProtocolViolation, "malformed SCRAM message"},
		{"bad flag", first("x,,n=,r=abc"), ProtocolViolation, "malformed SCRAM message"},
		{"authzid", first("n,a=root,n=,r=abc"), FeatureNotSupported, "client uses authorization identity, but it is not supported"},
		{"extension", first("n,,m=x,n=,r=abc"), FeatureNotSupported, "client requires an unsupported SCRAM extension"},
		{"nonce", first("n,,n=,r=a\x7f"), ProtocolViolation, "non-printable characters in SCRAM nonce"},
		{"no nonce", first("n,,n="), ProtocolViolation, "malformed SCRAM message"},
		{"final empty", second(""), ProtocolViolation, "malformed SCRAM message"},
		{"final nonce", second("c=biws,r=abc,p=AAAA"), ProtocolViolation, "malformed SCRAM message"},
		{"final binding", second("c=eSws,r=abc,p=AAAA"), ProtocolViolation, "malformed SCRAM message"},
		{"final base64", second("c=biws,r=abc,p=?\xff"), ProtocolViolation, "malformed SCRAM message"},
	} {
		for _, v := range []*Verifier{nil, mustVerifier(t, a, "u", "pencil")} {
			conv := a.Begin("u", v)
			for i, body := range c.bodies {
				_, done, err := conv.Step(nil, body)
				last := i == len(c.bodies)-1
				if e := AsError(err); done || last && (e == nil || e.Code != c.code || e.Message != c.message || !e.IsFatal()) || !last && e != nil {
					t.Errorf("%s: %v %v", c.name, done, e)
				}
			}
		}
	}
}

func TestVerifierStored(t *testing.T) {
	v, err := NewVerifier("pencil", 0)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseVerifier(v.Stored())
	if err != nil || again.Stored() != v.Stored() {
		t.Fatal(err)
	}
	a := NewAuthenticator(nil, 0)
	if err := logIn(t, a.Begin("u", mustVerifier(t, a, "u", v.Stored())), "pencil", false); err != nil {
		t.Error(err)
	}
	if strings.Contains(v.String(), v.Stored()[len(ScramSHA256):]) {
		t.Error("String shows the secret")
	}
	if _, err := NewVerifier("", 0); err == nil {
		t.Error("accepted an empty password")
	}
	good := v.Stored()
	for _, bad := range []string{
		"", "pencil", "md5" + strings.Repeat("0", 32), "SCRAM-SHA-256", "SCRAM-SHA-256$", "SCRAM-SHA-256$4096", "SCRAM-SHA-256$4096:AAAA", "SCRAM-SHA-256$4096:AAAA$AAAA",
		"SCRAM-SHA-256$4096:AAAA$AAAA:AAAA", strings.Replace(good, "4096", "0", 1), strings.Replace(good, "4096", "-1", 1),
		strings.Replace(good, "4096", "99999999999", 1), good + "x", good[1:], strings.Replace(good, "$4096:", "$4096:!", 1),
	} {
		if _, err := ParseVerifier(bad); err == nil {
			t.Errorf("accepted %q", bad)
		} else if len(bad) > 20 && strings.Contains(err.Error(), bad) {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
}

// TestVerifierOfPostgreSQL derives anew what PostgreSQL 15 stored.
func TestVerifierOfPostgreSQL(t *testing.T) {
	for _, c := range []struct{ password, stored string }{
		{"pencil", "SCRAM-SHA-256$4096:KbpU2lgLja+uOgVpTpymtA==$rWjkbiG/e2MaaHzPEIBcIil7wFkZWPTM7LnitE7jg1g=:xJSRJtHIQQepwrVlSWgwxR7SmZbgFmpE/mXnft6z+UY="},
		{"I\u00adX", "SCRAM-SHA-256$4096:Kw668Nbthijh0IrmCZ9f+Q==$gp8+4OW5pk04OO8DqvLD8R9mYNiTd5+kw5YDAE5osEs=:jA6hOR+rV9TmGFrrqkrZpuEiMQU2Y4O9vGMEolgTyBs="},
	} {
		v, err := ParseVerifier(c.stored)
		if err != nil || v.Stored() != c.stored {
			t.Fatal(err)
		}
		same, err := deriveVerifier(c.password, []byte(v.credentials.Salt), v.credentials.Iters)
		if err != nil || same.Stored() != c.stored {
			t.Errorf("%q: %v %v", c.password, same.Stored(), err)
		}
		a := NewAuthenticator(nil, 0)
		if err := logIn(t, a.Begin("u", v), c.password, false); err != nil {
			t.Error(err)
		}
	}
}

func TestVerifierIsCached(t *testing.T) {
	a := NewAuthenticator(nil, 0)
	var got [8]*Verifier
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i], _ = a.Verifier("u", "pencil") })
	}
	wg.Wait()
	for _, v := range got {
		if v == nil || v != got[0] {
			t.Fatal("made more than once")
		}
	}
	if v := mustVerifier(t, a, "u", "other"); v == got[0] {
		t.Error("the old password's verifier")
	}
	if _, err := a.Verifier("w", ""); err == nil {
		t.Error("accepted an empty password")
	}
}

// TestSASLprep has the examples of RFC 4013, section 3, and the points where
// PostgreSQL's pg_saslprep has its own way.
func TestSASLprep(t *testing.T) {
	for in, want := range map[string]string{
		"I\u00adX":             "IX",               // soft hyphen: mapped to nothing
		"user":                 "user",             // ASCII
		"USER":                 "USER",             // case is kept
		"\u00aa":               "a",                // NFKC
		"\u2168":               "IX",               // NFKC
		"\x07":                 "\x07",             // prohibited by the RFC, but ASCII: as it is
		"\u06271":              "\u06271",          // fails the bidirectional rule: as it is
		"a\u00a0b":             "a b",              // no-break space
		"a\u200bb":             "a b",              // zero width space: a space, not nothing
		"\u00ad":               "\u00ad",           // nothing would be left: as it is
		"p\xff\u00aa":          "p\xff\u00aa",      // no UTF-8: as it is
		"\u00aa\x07":           "\u00aa\x07",       // prohibited: as it is
		"\u00aa\U0001f600":     "\u00aa\U0001f600", // unassigned in Unicode 3.2: as it is
		"\u00e9\u0065\u0301":   "\u00e9\u00e9",
		"\u0627\u0628\u0644":   "\u0627\u0628\u0644",
		"\ufb01\u2460\u3000.x": "fi1 .x",
	} {
		if got := saslprep(in); got != want {
			t.Errorf("%+q: %+q, want %+q", in, got, want)
		}
	}
}

func FuzzScram(f *testing.F) {
	f.Add(initialResponse(ScramSHA256, "n,,n=,r=abc"), []byte("c=biws,r=abc,p=AAAA"))
	f.Add([]byte(ScramSHA256+"\x00\xff\xff\xff\xff"), []byte("y,,n=,r=abc"))
	a := NewAuthenticator(nil, 1)
	v, _ := a.Verifier("u", "pencil")
	f.Fuzz(func(t *testing.T, first, second []byte) {
		for _, v := range []*Verifier{v, nil} {
			c := a.Begin("u", v)
			for _, body := range [][]byte{first, second} {
				_, done, err := c.Step(nil, body)
				if done {
					t.Fatal("got in")
				}
				if err != nil && !AsError(err).IsFatal() {
					t.Fatal(err)
				}
			}
		}
	})
}
