package wire

import (
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/xdg-go/scram"
	"github.com/xdg-go/stringprep"
	"golang.org/x/text/unicode/norm"
)

// ScramSHA256 is the only SASL mechanism that is offered. SCRAM-SHA-256-PLUS is
// not: its channel binding names the certificate of the TLS connection, which a
// gateway behind a load balancer that ends TLS does not know.
const ScramSHA256 = "SCRAM-SHA-256"

// MaxSASLMessageBytes bounds the body of a message of the SASL exchange
// (PG_MAX_SASL_MESSAGE_LENGTH in PostgreSQL's libpq/sasl.h).
const MaxSASLMessageBytes = 1024

// Defaults of PostgreSQL (common/scram-common.h).
const (
	scramIterations = 4096
	scramSaltBytes  = 16
)

// Verifier is what a server keeps to check a password by SCRAM-SHA-256. The
// password can't be got from it. It does not change and may be shared.
type Verifier struct {
	credentials scram.StoredCredentials
}

// NewVerifier makes a Verifier of a password with a fresh random salt. With
// iterations 0 it is PostgreSQL's default, 4096, which takes a millisecond or
// so. An empty password is an error, as in PostgreSQL.
func NewVerifier(password string, iterations int) (*Verifier, error) {
	salt := make([]byte, scramSaltBytes)
	_, _ = rand.Read(salt) // never fails
	return deriveVerifier(password, salt, iterations)
}

func deriveVerifier(password string, salt []byte, iterations int) (*Verifier, error) {
	if password == "" {
		return nil, errors.New("an empty password can't be used for SCRAM authentication")
	}
	if iterations == 0 {
		iterations = scramIterations
	}
	salted, err := pbkdf2.Key(sha256.New, saslprep(password), salt, iterations, sha256.Size)
	if err != nil {
		return nil, err
	}
	storedKey := sha256.Sum256(hmacSHA256(salted, "Client Key"))
	return &Verifier{scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: iterations},
		StoredKey:  storedKey[:],
		ServerKey:  hmacSHA256(salted, "Server Key"),
	}}, nil
}

func hmacSHA256(key []byte, data ...string) []byte {
	mac := hmac.New(sha256.New, key)
	for _, d := range data {
		mac.Write([]byte(d))
	}
	return mac.Sum(nil)
}

// ParseVerifier reads PostgreSQL's stored form (pg_authid.rolpassword):
//
//	SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>
//
// with salt and keys in base64. The error does not quote it.
func ParseVerifier(stored string) (*Verifier, error) {
	v, ok := parseVerifier(stored)
	if !ok {
		return nil, errors.New("invalid SCRAM secret: expected SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>")
	}
	return v, nil
}

func parseVerifier(stored string) (*Verifier, bool) {
	rest, ok := strings.CutPrefix(stored, ScramSHA256+"$")
	if !ok {
		return nil, false
	}
	factors, keys, ok := strings.Cut(rest, "$")
	if !ok {
		return nil, false
	}
	iterations, salt64, ok := strings.Cut(factors, ":")
	if !ok {
		return nil, false
	}
	stored64, server64, ok := strings.Cut(keys, ":")
	if !ok {
		return nil, false
	}
	n, err := strconv.ParseUint(iterations, 10, 31)
	salt, err1 := base64.StdEncoding.DecodeString(salt64)
	storedKey, err2 := base64.StdEncoding.DecodeString(stored64)
	serverKey, err3 := base64.StdEncoding.DecodeString(server64)
	if errors.Join(err, err1, err2, err3) != nil || n == 0 || len(salt) == 0 ||
		len(storedKey) != sha256.Size || len(serverKey) != sha256.Size {
		return nil, false
	}
	return &Verifier{scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(salt), Iters: int(n)},
		StoredKey:  storedKey,
		ServerKey:  serverKey,
	}}, true
}

// Stored returns PostgreSQL's stored form, which ParseVerifier reads. It is a
// secret: passwords can be guessed against it.
func (v *Verifier) Stored() string {
	c, b64 := &v.credentials, base64.StdEncoding.EncodeToString
	return fmt.Sprintf("%s$%d:%s$%s:%s", ScramSHA256, c.Iters, b64([]byte(c.Salt)), b64(c.StoredKey), b64(c.ServerKey))
}

// String does not show the secret, so that a Verifier may get into a log.
func (v *Verifier) String() string { return ScramSHA256 + " verifier" }

// spaces are the space characters outside ASCII that SASLprep maps to a space
// (RFC 3454, table C.1.2).
var spaces = stringprep.Mapping{
	0x00A0: {' '}, 0x1680: {' '}, 0x2000: {' '}, 0x2001: {' '}, 0x2002: {' '}, 0x2003: {' '},
	0x2004: {' '}, 0x2005: {' '}, 0x2006: {' '}, 0x2007: {' '}, 0x2008: {' '}, 0x2009: {' '},
	0x200A: {' '}, 0x200B: {' '}, 0x202F: {' '}, 0x205F: {' '}, 0x3000: {' '},
}

// passwordProfile is SASLprep in PostgreSQL's order (pg_saslprep in
// common/saslprep.c), which differs from stringprep.SASLprep in two points:
// U+200B is a space rather than nothing, and what is prohibited is looked for
// before the normalisation, not after.
var passwordProfile = stringprep.Profile{
	Mappings: []stringprep.Mapping{spaces, stringprep.TableB1},
	Prohibits: []stringprep.Set{
		stringprep.TableA1, stringprep.TableC1_2, stringprep.TableC2_1, stringprep.TableC2_2,
		stringprep.TableC3, stringprep.TableC4, stringprep.TableC5, stringprep.TableC6,
		stringprep.TableC7, stringprep.TableC8, stringprep.TableC9,
	},
	CheckBiDi: true,
}

// saslprep normalises a password as PostgreSQL does on both sides: ASCII stays
// as it is, and so does what is no UTF-8 or what SASLprep refuses.
func saslprep(password string) string {
	if isASCII(password) || !utf8.ValidString(password) {
		return password
	}
	mapped, err := passwordProfile.Prepare(password)
	if err != nil || mapped == "" {
		return password
	}
	return norm.NFKC.String(mapped)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// Authenticator makes the Verifiers of a process and runs its SCRAM exchanges.
// It may be used by many goroutines.
type Authenticator struct {
	secret     []byte
	iterations int

	mu sync.Mutex
	// verifiers has one element for each user that Verifier was asked for: the
	// configured ones, not those that clients make up. Guarded by mu.
	verifiers map[string]cachedVerifier
}

type cachedVerifier struct {
	password [sha256.Size]byte // keyed hash of what it was made from
	derive   func() (*Verifier, error)
}

// NewAuthenticator returns an Authenticator. The secret decides the salts of
// plain passwords and those of users that do not exist; when empty, it is random.
// Gateways that share one secret can't be told apart by them. Iterations is
// likewise for both; 0 stands for 4096. Where stored forms are configured, it
// should be theirs, since otherwise their users differ visibly from those that
// do not exist.
func NewAuthenticator(secret []byte, iterations int) *Authenticator {
	if iterations == 0 {
		iterations = scramIterations
	}
	if len(secret) == 0 {
		secret = make([]byte, sha256.Size)
		_, _ = rand.Read(secret) // never fails
	}
	return &Authenticator{secret: secret, iterations: iterations, verifiers: map[string]cachedVerifier{}}
}

// Verifier returns the Verifier of a user whose configured password is plain or
// in PostgreSQL's stored form; as in CREATE ROLE, anything that has that form
// is taken for it. It is derived once for each user and password, in about a
// millisecond. To keep that millisecond from telling which users exist, call
// it for all users when the configuration is loaded.
func (a *Authenticator) Verifier(user, password string) (*Verifier, error) {
	hash := [sha256.Size]byte(hmacSHA256(a.secret, "password", password))
	a.mu.Lock()
	cached, ok := a.verifiers[user]
	if !ok || !hmac.Equal(cached.password[:], hash[:]) {
		cached = cachedVerifier{hash, sync.OnceValues(func() (*Verifier, error) {
			if v, ok := parseVerifier(password); ok {
				return v, nil
			}
			return deriveVerifier(password, a.salt(user), a.iterations)
		})}
		a.verifiers[user] = cached
	}
	a.mu.Unlock()
	return cached.derive()
}

// salt returns the salt of a user that has no stored one, whether it exists or
// not: always the same, so that asking twice tells nothing.
func (a *Authenticator) salt(user string) []byte {
	return hmacSHA256(a.secret, "salt", user)[:scramSaltBytes]
}

// mock returns a Verifier of a password that nobody knows.
func (a *Authenticator) mock(user string) *Verifier {
	return &Verifier{scram.StoredCredentials{
		KeyFactors: scram.KeyFactors{Salt: string(a.salt(user)), Iters: a.iterations},
		StoredKey:  hmacSHA256(a.secret, "stored key", user),
		ServerKey:  hmacSHA256(a.secret, "server key", user),
	}}
}

// Begin starts the exchange with a client that says to be user. With v nil, for
// a user that does not exist or may not log in, the exchange takes the same
// course and fails at its end as if the password were wrong (as PostgreSQL's
// mock authentication in libpq/auth-scram.c). The user is the one of the
// StartupMessage; the name inside the SCRAM messages is ignored, as PostgreSQL
// does.
//
// The caller sends AppendAuthenticationSASL with ScramSHA256 and hands each
// message of type 'p' to Step.
func (a *Authenticator) Begin(user string, v *Verifier) *Conversation {
	mock := a.mock(user) // always made, for the time that it takes
	c := &Conversation{user: user, doomed: v == nil}
	if v == nil {
		v = mock
	}
	server, err := scram.SHA256.NewServer(func(string) (scram.StoredCredentials, error) { return v.credentials, nil })
	if err != nil {
		c.err = err // never: SHA256 always has a server
		return c
	}
	c.conv = server.NewConversation()
	return c
}

// Conversation is one SCRAM exchange, seen from the server. It serves one
// goroutine, once.
type Conversation struct {
	user   string
	conv   *scram.ServerConversation
	doomed bool  // fails whatever the proof is
	err    error // the exchange is over, by this
	stage  scramStage
}

type scramStage uint8

const (
	awaitMechanism   scramStage = iota // a SASLInitialResponse
	awaitClientFirst                   // it came without data: that follows in a SASLResponse
	awaitClientFinal
	scramOver
)

// Step takes the body of the client's next message of type 'p', without its
// header: first a SASLInitialResponse, then SASLResponses. It appends to dst
// what is to be sent: AuthenticationSASLContinue, or, when done is true and the
// client has proved its password, AuthenticationSASLFinal, upon which
// AuthenticationOk has to follow. An error is always a FATAL *Error to be sent
// to the client: 28P01 for a wrong password and for an unknown user alike,
// 08P01 or 0A000 for what is no proper message, both after as many steps for
// either kind of user. After an error or after done, every call is an error.
func (c *Conversation) Step(dst, body []byte) (out []byte, done bool, err error) {
	if c.err == nil {
		out, err = c.step(dst, body)
		c.err = err
		if c.stage == scramOver && err == nil {
			c.err = Fatalf(ProtocolViolation, "SASL exchange is over already")
			return out, true, nil
		}
		if err == nil {
			return out, false, nil
		}
	}
	e := AsError(c.err)
	if !e.IsFatal() {
		fatal := *e
		fatal.Severity = SeverityFatal
		e = &fatal
	}
	return dst, false, e
}

func (c *Conversation) step(dst, body []byte) ([]byte, error) {
	if len(body) > MaxSASLMessageBytes {
		return nil, Fatalf(ProtocolViolation, "SASL message of %d bytes is too long", len(body))
	}
	switch c.stage {
	case awaitMechanism:
		data, present, err := decodeSASLInitialResponse(body)
		if err != nil {
			return nil, err
		}
		if !present {
			c.stage = awaitClientFirst
			return AppendAuthenticationSASLContinue(dst, ""), nil
		}
		return c.clientFirst(dst, string(data))
	case awaitClientFirst:
		return c.clientFirst(dst, string(body))
	default:
		return c.clientFinal(dst, string(body))
	}
}

// decodeSASLInitialResponse returns the data of a SASLInitialResponse that
// chose the one mechanism there is.
func decodeSASLInitialResponse(body []byte) (data []byte, present bool, err error) {
	c := cursor{body: body}
	mechanism := c.string()
	n := int32(c.uint32())
	if c.err == nil && n != -1 {
		if n < 0 || !c.have(int(n)) {
			return nil, false, errInsufficientData
		}
		data, present = body[c.off:c.off+int(n)], true
		c.off += int(n)
	}
	if err := c.end(); err != nil {
		return nil, false, err
	}
	if string(mechanism) != ScramSHA256 {
		return nil, false, Fatalf(ProtocolViolation, "client selected an invalid SASL authentication mechanism")
	}
	return data, present, nil
}

func (c *Conversation) clientFirst(dst []byte, message string) ([]byte, error) {
	if err := checkClientFirst(message); err != nil {
		return nil, err
	}
	challenge, err := c.conv.Step(message)
	if err != nil {
		return nil, malformedScram("%s", printable(err))
	}
	c.stage = awaitClientFinal
	return AppendAuthenticationSASLContinue(dst, challenge), nil
}

// checkClientFirst refuses what the scram package would let pass, or would
// refuse in other words than PostgreSQL's read_client_first_message. The flag
// 'y' says that the client could bind to the channel but believes that the
// server can't; since that is so, it is accepted as 'n' is (RFC 5802, section
// 6). The flag 'p' belongs to SCRAM-SHA-256-PLUS alone.
func checkClientFirst(message string) error {
	if message == "" {
		return malformedScram("The message is empty.")
	}
	if strings.IndexByte(message, 0) >= 0 {
		return malformedScram("Message length does not match input length.")
	}
	flag, rest, _ := strings.Cut(message, ",")
	if strings.HasPrefix(flag, "p") {
		return malformedScram("The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel binding data.")
	}
	authzid, bare, _ := strings.Cut(rest, ",")
	if strings.HasPrefix(authzid, "a") {
		return Fatalf(FeatureNotSupported, "client uses authorization identity, but it is not supported")
	}
	if strings.HasPrefix(bare, "m") {
		return Fatalf(FeatureNotSupported, "client requires an unsupported SCRAM extension")
	}
	if _, nonce, ok := strings.Cut(bare, ",r="); ok {
		nonce, _, _ = strings.Cut(nonce, ",")
		for i := range len(nonce) {
			if nonce[i] <= ' ' || nonce[i] > '~' {
				return Fatalf(ProtocolViolation, "non-printable characters in SCRAM nonce")
			}
		}
	}
	return nil
}

func (c *Conversation) clientFinal(dst []byte, message string) ([]byte, error) {
	c.stage = scramOver
	answer, err := c.conv.Step(message)
	switch {
	case err != nil && answer != scram.ErrInvalidProof:
		return nil, malformedScram("%s", printable(err))
	case err != nil || c.doomed || !c.conv.Valid():
		return nil, Fatalf(InvalidPassword, `password authentication failed for user "%s"`, c.user)
	}
	return AppendAuthenticationSASLFinal(dst, answer), nil
}

func malformedScram(detail string, args ...any) *Error {
	return Fatalf(ProtocolViolation, "malformed SCRAM message").WithDetail(detail, args...)
}

// printable makes an error's text, which may quote the client, fit to be sent.
func printable(err error) string { return strings.ToValidUTF8(err.Error(), "?") }
