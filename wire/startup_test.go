package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgproto3"
	"pgregory.net/rapid"
)

// startupPacket makes a packet of a code and what follows it.
func startupPacket(code uint32, rest string) []byte {
	p := binary.BigEndian.AppendUint32(nil, uint32(8+len(rest)))
	return append(binary.BigEndian.AppendUint32(p, code), rest...)
}

func TestReadStartup(t *testing.T) {
	long := strings.Repeat("k", maxCancelKeyBytes)
	for _, c := range []struct {
		name   string
		packet []byte
		want   Startup
	}{
		{"ssl", startupPacket(sslRequestCode, ""), Startup{Kind: SSLRequest}},
		{"gss", startupPacket(gssEncRequestCode, ""), Startup{Kind: GSSENCRequest}},
		{"cancel", startupPacket(cancelRequestCode, "\x00\x00\x00\x07abcd"), Startup{Kind: CancelRequest, PID: 7, Key: []byte("abcd")}},
		{"long cancel", startupPacket(cancelRequestCode, "\xff\x00\x00\x07"+long), Startup{Kind: CancelRequest, PID: 0xff000007, Key: []byte(long)}},
		{"3.0", startupPacket(3<<16, "user\x00u\x00database\x00d\x00user\x00v\x00\x00"),
			Startup{Kind: StartupMessage, Major: 3, Params: []Param{{"user", "u"}, {"database", "d"}, {"user", "v"}}}},
		{"3.2 and options", startupPacket(3<<16|2, "_pq_.x\x001\x00user\x00u\x00\x00"),
			Startup{Kind: StartupMessage, Major: 3, Minor: 2, Params: []Param{{"user", "u"}}, Options: []string{"_pq_.x"}}},
		{"empty value", startupPacket(3<<16, "user\x00u\x00options\x00\x00\x00"),
			Startup{Kind: StartupMessage, Major: 3, Params: []Param{{"user", "u"}, {"options", ""}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := bytes.NewReader(append(bytes.Clone(c.packet), "more"...))
			got, err := ReadStartup(r)
			if err != nil || !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %#v, %v", got, err)
			}
			if r.Len() != len("more") {
				t.Errorf("%d bytes are left of what follows", r.Len())
			}
			for n := range c.packet {
				_, err := ReadStartup(bytes.NewReader(c.packet[:n]))
				if n == 0 && err != io.EOF || n > 0 && !errors.Is(err, io.ErrUnexpectedEOF) {
					t.Errorf("cut after %d bytes: %v", n, err)
				}
			}
		})
	}
}

func TestReadStartupRefuses(t *testing.T) {
	big := startupPacket(3<<16, "user\x00"+strings.Repeat("u", 2*maxStartupBytes))
	for _, c := range []struct {
		name   string
		packet []byte
		code   string // "": not to be told to the client
		text   string
	}{
		{"length 0", make([]byte, 8), "", "invalid length of startup packet"},
		{"length 7", []byte{0, 0, 0, 7, 0, 3, 0, 0}, "", "invalid length of startup packet"},
		{"too long", big, "", "invalid length of startup packet"},
		{"negative length", []byte{255, 255, 255, 255, 0, 3, 0, 0}, "", "invalid length of startup packet"},
		{"long ssl", startupPacket(sslRequestCode, "x"), "", "invalid length of startup packet"},
		{"cancel without pid", startupPacket(cancelRequestCode, "abc"), "", "invalid length of startup packet"},
		{"cancel without key", startupPacket(cancelRequestCode, "pid1"), "", "invalid length of cancel key in cancel request packet"},
		{"cancel key too long", startupPacket(cancelRequestCode, "pid1"+strings.Repeat("k", 257)), "", "invalid length of cancel key in cancel request packet"},
		{"2.0", startupPacket(2<<16, ""), FeatureNotSupported, "unsupported frontend protocol 2.0: server supports 3.0 to 3.2"},
		{"4.1", startupPacket(4<<16|1, ""), FeatureNotSupported, "unsupported frontend protocol 4.1: server supports 3.0 to 3.2"},
		{"no terminator", startupPacket(3<<16, "user\x00u\x00"), ProtocolViolation, "invalid startup packet layout: expected terminator as last byte"},
		{"no value", startupPacket(3<<16, "user\x00"), ProtocolViolation, "invalid startup packet layout: expected terminator as last byte"},
		{"open value", startupPacket(3<<16, "user\x00u"), ProtocolViolation, "invalid startup packet layout: expected terminator as last byte"},
		{"bytes behind", startupPacket(3<<16, "user\x00u\x00\x00x"), ProtocolViolation, "invalid startup packet layout: expected terminator as last byte"},
		{"no user", startupPacket(3<<16, "\x00"), InvalidAuthorization, "no PostgreSQL user name specified in startup packet"},
		{"empty user", startupPacket(3<<16, "user\x00\x00\x00"), InvalidAuthorization, "no PostgreSQL user name specified in startup packet"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s, err := ReadStartup(bytes.NewReader(c.packet))
			if err == nil {
				t.Fatalf("accepted as %#v", s)
			}
			e, told := errors.AsType[*Error](err)
			if told != (c.code != "") || told && (e.Code != c.code || e.Message != c.text || !e.IsFatal()) || !told && err.Error() != c.text {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestStartupLongestPacket(t *testing.T) {
	rest := "user\x00" + strings.Repeat("u", maxStartupBytes-4-len("user\x00\x00\x00")) + "\x00\x00"
	if _, err := ReadStartup(bytes.NewReader(startupPacket(3<<16, rest))); err != nil {
		t.Error(err)
	}
	if _, err := ReadStartup(bytes.NewReader(startupPacket(3<<16, "u"+rest))); err != errStartupLength {
		t.Error(err)
	}
}

func TestStartupNames(t *testing.T) {
	s := Startup{Params: []Param{{"user", "u"}, {"user", "v"}}}
	if s.User() != "v" || s.Database() != "v" {
		t.Error(s.User(), s.Database())
	}
	s.Params = append(s.Params, Param{"database", "d"})
	if s.Database() != "d" {
		t.Error(s.Database())
	}
	for kind, name := range map[StartupKind]string{StartupMessage: "StartupMessage", CancelRequest: "CancelRequest",
		SSLRequest: "SSLRequest", GSSENCRequest: "GSSENCRequest", 0: "StartupKind(0)"} {
		if kind.String() != name {
			t.Error(kind.String())
		}
	}
}

func TestReplication(t *testing.T) {
	for value, want := range map[string]ReplicationMode{
		"true": PhysicalReplication, "T": PhysicalReplication, "on": PhysicalReplication, "1": PhysicalReplication, "y": PhysicalReplication,
		"database": LogicalReplication,
		"false":    NoReplication, "OFF": NoReplication, "of": NoReplication, "0": NoReplication, "n": NoReplication,
	} {
		s := Startup{Params: []Param{{"replication", value}}}
		if got, err := s.Replication(); got != want || err != nil {
			t.Errorf("%q: %v, %v", value, got, err)
		}
	}
	for _, value := range []string{"", "o", "Database", "truer", "2"} {
		s := Startup{Params: []Param{{"replication", value}}}
		if _, err := s.Replication(); AsError(err).SQLState() != InvalidParameterValue {
			t.Errorf("%q: %v", value, err)
		}
	}
	if got, err := new(Startup).Replication(); got != NoReplication || err != nil {
		t.Error(got, err)
	}
}

func TestNegotiate(t *testing.T) {
	for _, c := range []struct {
		asked   uint16
		options []string
		minor   uint16
		tell    bool
		long    bool
	}{
		{0, nil, 0, false, false},
		{1, nil, 1, false, false},
		{2, nil, 2, false, true},
		{3, nil, 2, true, true},
		{9999, nil, 2, true, true},
		{0, []string{"_pq_.a"}, 0, true, false},
	} {
		s := Startup{Major: 3, Minor: c.asked, Options: c.options}
		minor, tell := s.Negotiate()
		if minor != c.minor || tell != c.tell || s.LongCancelKey() != c.long {
			t.Errorf("%+v: %d %v %v", c, minor, tell, s.LongCancelKey())
		}
	}
	var m pgproto3.NegotiateProtocolVersion
	b := AppendNegotiateProtocolVersion(nil, 2, []string{"_pq_.a", "_pq_.b"})
	if err := m.Decode(b[headerBytes:]); err != nil || b[0] != 'v' || m.NewestMinorProtocol != 3<<16|2 ||
		!reflect.DeepEqual(m.UnrecognizedOptions, []string{"_pq_.a", "_pq_.b"}) {
		t.Errorf("%#v %v", m, err)
	}
}

// TestStartupEncoders compares the messages with those of pgproto3.
func TestStartupEncoders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name, value := cString().Draw(t, "name"), cString().Draw(t, "value")
		data := rapid.SliceOf(rapid.Byte()).Draw(t, "data")
		pid, key := rapid.Uint32().Draw(t, "pid"), rapid.SliceOfN(rapid.Byte(), 4, 256).Draw(t, "key")
		status := rapid.SampledFrom([]byte{TxIdle, TxActive, TxFailed}).Draw(t, "status")
		for _, c := range []struct {
			got  []byte
			want pgproto3.Message
		}{
			{AppendAuthenticationOk(nil), &pgproto3.AuthenticationOk{}},
			{AppendAuthenticationSASL(nil, ScramSHA256, "other"), &pgproto3.AuthenticationSASL{AuthMechanisms: []string{ScramSHA256, "other"}}},
			{AppendAuthenticationSASLContinue(nil, data), &pgproto3.AuthenticationSASLContinue{Data: data}},
			{AppendAuthenticationSASLFinal(nil, string(data)), &pgproto3.AuthenticationSASLFinal{Data: data}},
			{AppendParameterStatus(nil, name, value), &pgproto3.ParameterStatus{Name: name, Value: value}},
			{AppendBackendKeyData(nil, pid, key), &pgproto3.BackendKeyData{ProcessID: pid, SecretKey: key}},
			{AppendReadyForQuery(nil, status), &pgproto3.ReadyForQuery{TxStatus: status}},
		} {
			if want, err := c.want.Encode(nil); err != nil || !bytes.Equal(c.got, want) {
				t.Fatalf("%T: got %q, want %q, %v", c.want, c.got, want, err)
			}
		}
	})
}

func TestStartupAgainstPgproto3(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		params := rapid.MapOf(cString().Filter(func(s string) bool { return s != "" && !strings.HasPrefix(s, "_pq_.") }), cString()).Draw(t, "params")
		params["user"] = "u"
		packet, err := (&pgproto3.StartupMessage{ProtocolVersion: 3<<16 | 2, Parameters: params}).Encode(nil)
		if err != nil {
			t.Fatal(err)
		}
		s, err := ReadStartup(bytes.NewReader(packet))
		if err != nil || len(s.Params) != len(params) {
			t.Fatalf("%v %v", s, err)
		}
		for name, value := range params {
			if got, ok := s.Param(name); !ok || got != value {
				t.Fatalf("%q: %q", name, got)
			}
		}
	})
}

func FuzzReadStartup(f *testing.F) {
	f.Add(startupPacket(3<<16, "user\x00u\x00_pq_.x\x00\x00replication\x00on\x00\x00"))
	f.Add(startupPacket(3<<16|9, "user\x00u"))
	f.Add(startupPacket(cancelRequestCode, "pid1key1"))
	f.Add(startupPacket(sslRequestCode, ""))
	f.Add(startupPacket(gssEncRequestCode, ""))
	f.Add([]byte{0x16, 3, 1, 2})
	f.Fuzz(func(t *testing.T, packet []byte) {
		r := bytes.NewReader(packet)
		s, err := ReadStartup(r)
		if err != nil {
			return
		}
		if read := len(packet) - r.Len(); uint32(read) != binary.BigEndian.Uint32(packet) {
			t.Errorf("read %d bytes of %q", read, packet)
		}
		if s.Kind == StartupMessage {
			_, _ = s.Replication()
			if s.User() == "" || s.Database() == "" || s.Major != 3 {
				t.Errorf("%#v", s)
			}
		}
		if s.Kind == CancelRequest && (len(s.Key) == 0 || len(s.Key) > maxCancelKeyBytes) {
			t.Errorf("key of %d bytes", len(s.Key))
		}
	})
}
