package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of the start-up packets, in bytes.
const (
	// maxStartupBytes bounds a start-up packet without its length word
	// (MAX_STARTUP_PACKET_LENGTH in PostgreSQL's libpq/pqcomm.h).
	maxStartupBytes = 10000
	// maxCancelKeyBytes bounds the key of a CancelRequest since protocol 3.2;
	// before, it has 4 bytes.
	maxCancelKeyBytes = 256
)

// Codes that stand in the place of the version (libpq/pqcomm.h).
const (
	cancelRequestCode = 1234<<16 | 5678
	sslRequestCode    = 1234<<16 | 5679
	gssEncRequestCode = 1234<<16 | 5680
)

// MaxMinor is the newest minor version of protocol 3 that is spoken here: 3.2,
// which PostgreSQL 18 introduced.
const MaxMinor = 2

// StartupKind says which start-up packet was read.
type StartupKind uint8

// The start-up packets.
const (
	// StartupMessage asks for a session.
	StartupMessage StartupKind = iota + 1
	// CancelRequest asks to cancel what another connection is doing. Nothing is
	// answered; the connection is closed.
	CancelRequest
	// SSLRequest asks for TLS and is answered with one byte, S or N.
	SSLRequest
	// GSSENCRequest asks for encryption by GSSAPI and is answered with one
	// byte, G or N.
	GSSENCRequest
)

func (k StartupKind) String() string {
	switch k {
	case StartupMessage:
		return "StartupMessage"
	case CancelRequest:
		return "CancelRequest"
	case SSLRequest:
		return "SSLRequest"
	case GSSENCRequest:
		return "GSSENCRequest"
	}
	return fmt.Sprintf("StartupKind(%d)", uint8(k))
}

// Param is a name and a value from a StartupMessage.
type Param struct{ Name, Value string }

// Startup is a decoded start-up packet. It owns its memory.
type Startup struct {
	Kind StartupKind

	// Of a StartupMessage: the version that the client asks for. Major is
	// always 3. See Negotiate for the version that is spoken.
	Major, Minor uint16
	// Params has the parameters in the client's order, with user, database,
	// options and replication among them, without protocol options. A name may
	// come twice; the last one counts.
	Params []Param
	// Options has the names of the protocol options, which all begin with
	// "_pq_.". None of them is known to any version of the protocol so far.
	Options []string

	// Of a CancelRequest: which session, and the secret that proves it. Key has
	// 1 to 256 bytes; compare it in constant time.
	PID uint32
	Key []byte
}

var (
	errStartupLength = errors.New("invalid length of startup packet")
	errCancelLength  = errors.New("invalid length of cancel key in cancel request packet")
)

// ReadStartup reads one start-up packet from r, and not one byte more: what
// follows an SSLRequest belongs to TLS. r should be the socket itself. Bytes
// that arrived in clear behind an SSLRequest then meet the TLS handshake, which
// fails on them, and can never be taken for part of the encrypted session
// (CVE-2021-23222). A caller that reads through a buffer has to see to that
// itself: after an SSLRequest, the buffer has to be empty, else the connection
// is to be refused. Accept does all of this.
//
// io.EOF means that the client left without a word, which is common and no
// error. An *Error is FATAL and is what PostgreSQL tells such a client. Other
// errors are of the connection or of a packet that can't be read, upon which
// PostgreSQL closes the connection silently. No error leaves the connection
// usable. The rules are those of ProcessStartupPacket in PostgreSQL's
// backend_startup.c (postmaster.c before version 17); the packet, without its
// length word, has 4 to 10,000 bytes.
func ReadStartup(r io.Reader) (Startup, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		if err == io.EOF {
			return Startup{}, err
		}
		return Startup{}, fmt.Errorf("incomplete startup packet: %w", err)
	}
	return readStartupBody(r, head)
}

// readStartupBody reads what follows the length word.
func readStartupBody(r io.Reader, head [4]byte) (Startup, error) {
	n := int64(binary.BigEndian.Uint32(head[:])) - 4
	if n < 4 || n > maxStartupBytes {
		return Startup{}, errStartupLength
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(r, body); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return Startup{}, fmt.Errorf("incomplete startup packet: %w", err)
	}
	return parseStartup(body)
}

// parseStartup decodes a start-up packet without its length word.
func parseStartup(body []byte) (Startup, error) {
	if len(body) < 4 || len(body) > maxStartupBytes {
		return Startup{}, errStartupLength
	}
	code, rest := binary.BigEndian.Uint32(body), body[4:]
	switch code {
	case sslRequestCode, gssEncRequestCode:
		if len(rest) != 0 {
			return Startup{}, errStartupLength
		}
		if code == sslRequestCode {
			return Startup{Kind: SSLRequest}, nil
		}
		return Startup{Kind: GSSENCRequest}, nil
	case cancelRequestCode:
		if len(rest) < 4 {
			return Startup{}, errStartupLength
		}
		key := rest[4:]
		if len(key) == 0 || len(key) > maxCancelKeyBytes {
			return Startup{}, errCancelLength
		}
		return Startup{Kind: CancelRequest, PID: binary.BigEndian.Uint32(rest), Key: bytes.Clone(key)}, nil
	}
	s := Startup{Kind: StartupMessage, Major: uint16(code >> 16), Minor: uint16(code)}
	if s.Major != 3 {
		return Startup{}, unsupportedProtocol(s.Major, s.Minor)
	}
	if err := s.parseParams(rest); err != nil {
		return Startup{}, err
	}
	return s, nil
}

func unsupportedProtocol(major, minor uint16) *Error {
	return Fatalf(FeatureNotSupported, "unsupported frontend protocol %d.%d: server supports 3.0 to 3.%d", major, minor, MaxMinor)
}

// parseParams decodes the pairs of names and values up to the empty name, which
// has to be the last byte of the packet.
func (s *Startup) parseParams(b []byte) error {
	for len(b) > 0 && b[0] != 0 {
		name, rest, ok := cutString(b)
		if !ok {
			break
		}
		value, rest, ok := cutString(rest)
		if !ok {
			break
		}
		if strings.HasPrefix(string(name), "_pq_.") {
			s.Options = append(s.Options, string(name))
		} else {
			s.Params = append(s.Params, Param{string(name), string(value)})
		}
		b = rest
	}
	if len(b) != 1 || b[0] != 0 {
		return Fatalf(ProtocolViolation, "invalid startup packet layout: expected terminator as last byte")
	}
	if s.User() == "" {
		return Fatalf(InvalidAuthorization, "no PostgreSQL user name specified in startup packet")
	}
	return nil
}

// cutString splits b after its first NUL, which is in neither part.
func cutString(b []byte) (s, rest []byte, ok bool) {
	end := bytes.IndexByte(b, 0)
	if end < 0 {
		return nil, b, false
	}
	return b[:end], b[end+1:], true
}

// Param returns the value of the parameter with that name. Names are compared
// byte by byte, as PostgreSQL does with the four that it knows itself.
func (s *Startup) Param(name string) (value string, ok bool) {
	for i := len(s.Params) - 1; i >= 0; i-- {
		if s.Params[i].Name == name {
			return s.Params[i].Value, true
		}
	}
	return "", false
}

// User returns the role's name. ReadStartup refuses a packet without one.
func (s *Startup) User() string {
	user, _ := s.Param("user")
	return user
}

// Database returns the name of the database, which is the user's when the
// client names none.
func (s *Startup) Database() string {
	if database, _ := s.Param("database"); database != "" {
		return database
	}
	return s.User()
}

// ReplicationMode says whether a client asks for a replication connection.
type ReplicationMode uint8

// The values of the parameter "replication".
const (
	NoReplication       ReplicationMode = iota
	PhysicalReplication                 // true: walsender, no SQL
	LogicalReplication                  // "database": walsender, with SQL
)

// Replication returns what the parameter "replication" asks for. A value that
// is neither "database" nor a boolean is the FATAL error that PostgreSQL gives.
// The caller refuses what it can't serve.
func (s *Startup) Replication() (ReplicationMode, error) {
	value, ok := s.Param("replication")
	if !ok {
		return NoReplication, nil
	}
	if value == "database" {
		return LogicalReplication, nil
	}
	on, ok := parseBool(value)
	if !ok {
		return NoReplication, Fatalf(InvalidParameterValue, `invalid value for parameter "replication": "%s"`, value).
			WithHint(`Valid values are: "false", 0, "true", 1, "database".`)
	}
	if on {
		return PhysicalReplication, nil
	}
	return NoReplication, nil
}

// parseBool is parse_bool of PostgreSQL's utils/adt/bool.c: any prefix of true,
// false, yes and no, an unambiguous one of on and off, 0 and 1, in any case.
func parseBool(s string) (value, ok bool) {
	if s == "" {
		return false, false
	}
	s = strings.ToLower(s)
	switch {
	case strings.HasPrefix("true", s), strings.HasPrefix("yes", s), s == "on", s == "1":
		return true, true
	case strings.HasPrefix("false", s), strings.HasPrefix("no", s), s == "of", s == "off", s == "0":
		return false, true
	}
	return false, false
}

// Negotiate returns the minor version to speak with the client that sent s, and
// whether it has to be told by AppendNegotiateProtocolVersion, before any other
// message, because it asked for a newer one or for protocol options, none of
// which is known. As in PostgreSQL 18, a client that asks for 3.1, which never
// existed, gets it without a word: it is 3.0 under another number.
func (s *Startup) Negotiate() (minor uint16, tell bool) {
	return min(s.Minor, MaxMinor), s.Minor > MaxMinor || len(s.Options) > 0
}

// LongCancelKey says whether the client understands a BackendKeyData with a key
// of more than 4 bytes: since 3.2.
func (s *Startup) LongCancelKey() bool { return s.Minor >= 2 }

// AppendNegotiateProtocolVersion appends a NegotiateProtocolVersion message:
// the version 3.minor, written in full as PostgreSQL and libpq have it, and the
// names of the options that were not understood.
func AppendNegotiateProtocolVersion(dst []byte, minor uint16, options []string) []byte {
	dst, start := beginMessage(dst, 'v')
	dst = binary.BigEndian.AppendUint32(dst, 3<<16|uint32(minor))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(options)))
	for _, name := range options {
		dst = appendCString(dst, name)
	}
	return endMessage(dst, start)
}

// Codes of the Authentication messages (AUTH_REQ_* in libpq/protocol.h).
const (
	authOk           = 0
	authSASL         = 10
	authSASLContinue = 11
	authSASLFinal    = 12
)

// AppendAuthenticationOk appends the message that ends authentication.
func AppendAuthenticationOk(dst []byte) []byte {
	return append(dst, 'R', 0, 0, 0, 8, 0, 0, 0, authOk)
}

// AppendAuthenticationSASL appends the list of SASL mechanisms, the preferred
// one first.
func AppendAuthenticationSASL(dst []byte, mechanisms ...string) []byte {
	dst, start := beginMessage(dst, 'R')
	dst = append(dst, 0, 0, 0, authSASL)
	for _, m := range mechanisms {
		dst = appendCString(dst, m)
	}
	return endMessage(append(dst, 0), start)
}

// AppendAuthenticationSASLContinue appends a challenge.
func AppendAuthenticationSASLContinue[T text](dst []byte, data T) []byte {
	dst, start := beginMessage(dst, 'R')
	dst = append(dst, 0, 0, 0, authSASLContinue)
	return endMessage(append(dst, data...), start)
}

// AppendAuthenticationSASLFinal appends the outcome of a SASL exchange that
// succeeded. AuthenticationOk has to follow.
func AppendAuthenticationSASLFinal[T text](dst []byte, data T) []byte {
	dst, start := beginMessage(dst, 'R')
	dst = append(dst, 0, 0, 0, authSASLFinal)
	return endMessage(append(dst, data...), start)
}

// AppendParameterStatus appends a setting that the client wants to know of.
func AppendParameterStatus(dst []byte, name, value string) []byte {
	dst, start := beginMessage(dst, 'S')
	return endMessage(appendCString(appendCString(dst, name), value), start)
}

// AppendBackendKeyData appends what the client needs for a CancelRequest. The
// key has 4 bytes, or up to 256 for a client whose LongCancelKey is true;
// PostgreSQL 18 takes 32 then.
func AppendBackendKeyData(dst []byte, pid uint32, key []byte) []byte {
	dst, start := beginMessage(dst, 'K')
	dst = binary.BigEndian.AppendUint32(dst, pid)
	return endMessage(append(dst, key...), start)
}

// Transaction states that a ReadyForQuery reports.
const (
	TxIdle   = 'I' // not in a transaction block
	TxActive = 'T' // in a transaction block
	TxFailed = 'E' // in one that failed: everything but its end is refused
)

// AppendReadyForQuery appends ReadyForQuery with one of the Tx states.
func AppendReadyForQuery(dst []byte, status byte) []byte {
	return append(dst, 'Z', 0, 0, 0, 5, status)
}
