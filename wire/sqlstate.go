package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// The SQLSTATEs that the gateway itself raises. Errors of a shard keep their
// own code, whichever it is. Each constant is listed in conditions with the
// name that PostgreSQL gives to it (PostgreSQL documentation, appendix A;
// src/backend/utils/errcodes.txt).
const (
	ConnectionException          = "08000" // a connection is in a state in which it can't serve
	ConnectionFailure            = "08006" // a connection broke
	CannotConnect                = "08001" // a connection to a shard could not be made
	TransactionResolutionUnknown = "08007" // whether a transaction committed can't be known yet
	ProtocolViolation            = "08P01"
	FeatureNotSupported          = "0A000"
	InvalidParameterValue        = "22023"
	CharacterNotInRepertoire     = "22021"
	NotNullViolation             = "23502"
	ActiveTransaction            = "25001" // not allowed inside a transaction block
	NoActiveTransaction          = "25P01"
	InFailedTransaction          = "25P02"
	IdleInTransaction            = "25P03" // for longer than idle_in_transaction_session_timeout
	ReadOnlyTransaction          = "25006"
	UndefinedPreparedStatement   = "26000"
	InvalidAuthorization         = "28000"
	InvalidPassword              = "28P01"
	UndefinedCursor              = "34000"
	InvalidSavepoint             = "3B001"
	InvalidCatalogName           = "3D000" // no such database
	UniqueViolation              = "23505"
	SerializationFailure         = "40001"
	StatementCompletionUnknown   = "40003"
	DeadlockDetected             = "40P01"
	InsufficientPrivilege        = "42501"
	SyntaxError                  = "42601"
	UndefinedColumn              = "42703"
	UndefinedObject              = "42704"
	UndefinedTable               = "42P01"
	DuplicateCursor              = "42P03"
	DuplicatePreparedStatement   = "42P05"
	InsufficientResources        = "53000"
	OutOfMemory                  = "53200" // also of a server's other room that is fixed when it starts
	TooManyConnections           = "53300"
	ConfigurationLimitExceeded   = "53400"
	ProgramLimitExceeded         = "54000"
	StatementTooComplex          = "54001"
	ObjectNotInPrerequisiteState = "55000"
	ObjectInUse                  = "55006"
	LockNotAvailable             = "55P03"
	QueryCanceled                = "57014"
	AdminShutdown                = "57P01"
	CannotConnectNow             = "57P03"
	IdleSessionTimeout           = "57P05"
	InternalError                = "XX000"
)

// conditions gives each of the constants above its condition name, as PL/pgSQL
// and PostgreSQL's documentation write it.
var conditions = map[string]string{
	ConnectionException:          "connection_exception",
	ConnectionFailure:            "connection_failure",
	CannotConnect:                "sqlclient_unable_to_establish_sqlconnection",
	TransactionResolutionUnknown: "transaction_resolution_unknown",
	ProtocolViolation:            "protocol_violation",
	FeatureNotSupported:          "feature_not_supported",
	InvalidParameterValue:        "invalid_parameter_value",
	CharacterNotInRepertoire:     "character_not_in_repertoire",
	NotNullViolation:             "not_null_violation",
	ActiveTransaction:            "active_sql_transaction",
	NoActiveTransaction:          "no_active_sql_transaction",
	InFailedTransaction:          "in_failed_sql_transaction",
	IdleInTransaction:            "idle_in_transaction_session_timeout",
	ReadOnlyTransaction:          "read_only_sql_transaction",
	UndefinedPreparedStatement:   "invalid_sql_statement_name",
	InvalidAuthorization:         "invalid_authorization_specification",
	InvalidPassword:              "invalid_password",
	UndefinedCursor:              "invalid_cursor_name",
	InvalidSavepoint:             "invalid_savepoint_specification",
	InvalidCatalogName:           "invalid_catalog_name",
	UniqueViolation:              "unique_violation",
	SerializationFailure:         "serialization_failure",
	StatementCompletionUnknown:   "statement_completion_unknown",
	DeadlockDetected:             "deadlock_detected",
	InsufficientPrivilege:        "insufficient_privilege",
	SyntaxError:                  "syntax_error",
	UndefinedColumn:              "undefined_column",
	UndefinedObject:              "undefined_object",
	UndefinedTable:               "undefined_table",
	DuplicateCursor:              "duplicate_cursor",
	DuplicatePreparedStatement:   "duplicate_prepared_statement",
	InsufficientResources:        "insufficient_resources",
	OutOfMemory:                  "out_of_memory",
	TooManyConnections:           "too_many_connections",
	ConfigurationLimitExceeded:   "configuration_limit_exceeded",
	ProgramLimitExceeded:         "program_limit_exceeded",
	StatementTooComplex:          "statement_too_complex",
	ObjectNotInPrerequisiteState: "object_not_in_prerequisite_state",
	ObjectInUse:                  "object_in_use",
	LockNotAvailable:             "lock_not_available",
	QueryCanceled:                "query_canceled",
	AdminShutdown:                "admin_shutdown",
	CannotConnectNow:             "cannot_connect_now",
	IdleSessionTimeout:           "idle_session_timeout",
	InternalError:                "internal_error",
}

// ConditionName returns PostgreSQL's name of an SQLSTATE that the gateway
// raises ("0A000": "feature_not_supported"), or "" for any other.
func ConditionName(code string) string { return conditions[code] }

// Severities of an ErrorResponse and of a NoticeResponse, never localised.
const (
	SeverityError   = "ERROR"   // the statement failed
	SeverityFatal   = "FATAL"   // the session ends
	SeverityPanic   = "PANIC"   // the server ends
	SeverityWarning = "WARNING" // from here on: notices
	SeverityNotice  = "NOTICE"
	SeverityInfo    = "INFO"
)

// Error is an ErrorResponse or a NoticeResponse with all its fields
// (PostgreSQL documentation, "Error and Notice Message Fields"). An empty
// string and a zero number mean that the field is absent.
//
// An Error is not changed once it is made: it may be kept in a cache and shared
// between sessions. The With methods return changed copies.
type Error struct {
	// Severity is one of the Severity constants, never localised (field V).
	// When empty, Append writes ERROR and AppendNotice writes NOTICE.
	Severity string
	// LocalizedSeverity is field S as the server sent it; when empty, Severity
	// is sent in its place.
	LocalizedSeverity string
	Code              string // the SQLSTATE: five characters
	Message           string // one line
	Detail            string
	Hint              string
	// Position counts characters, not bytes, from 1, in the client's statement.
	Position         int32
	InternalPosition int32  // the same in InternalQuery
	InternalQuery    string // a statement that the server made by itself
	Where            string // a call stack, one entry a line
	Schema           string
	Table            string
	Column           string
	DataType         string
	Constraint       string
	File             string // in PostgreSQL's source
	Line             int32
	Routine          string
	// Unknown holds the fields that this version does not know, in their order,
	// so that they can be passed on.
	Unknown []UnknownField
}

// UnknownField is a field of an Error that this version does not know.
type UnknownField struct {
	Type  byte
	Value string
}

// Errorf returns an Error of severity ERROR: the statement fails and the
// session goes on.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Severity: SeverityError, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Fatalf returns an Error of severity FATAL: the connection is closed after it.
func Fatalf(code, format string, args ...any) *Error {
	return &Error{Severity: SeverityFatal, Code: code, Message: fmt.Sprintf(format, args...)}
}

// Noticef returns an Error of the given severity, for AppendNotice.
func Noticef(severity, code, format string, args ...any) *Error {
	return &Error{Severity: severity, Code: code, Message: fmt.Sprintf(format, args...)}
}

// WithDetail returns a copy of e with that detail, a whole sentence.
func (e *Error) WithDetail(format string, args ...any) *Error {
	c := *e
	c.Detail = fmt.Sprintf(format, args...)
	return &c
}

// WithHint returns a copy of e with that hint, a whole sentence that says what
// to do.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// WithPosition returns a copy of e that points to a character of the client's
// statement, counted from 1.
func (e *Error) WithPosition(character int32) *Error {
	c := *e
	c.Position = character
	return &c
}

// Error returns severity, message and SQLSTATE in one line, as psql does with
// VERBOSITY terse.
func (e *Error) Error() string {
	return orElse(e.Severity, SeverityError) + ": " + e.Message + " (SQLSTATE " + e.Code + ")"
}

// SQLState returns the SQLSTATE, under the name that pgx and lib/pq have for
// it.
func (e *Error) SQLState() string { return e.Code }

// IsFatal says whether the session is over with this error.
func (e *Error) IsFatal() bool {
	return e.Severity == SeverityFatal || e.Severity == SeverityPanic
}

// AsError returns the Error in err's chain. Anything else becomes an
// internal_error with err's text, so that a client always gets an SQLSTATE;
// ErrMessageLength is the peer's fault. It returns nil for nil.
func AsError(err error) *Error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	if errors.Is(err, ErrMessageLength) {
		return Fatalf(ProtocolViolation, "%s", err.Error())
	}
	return Errorf(InternalError, "%s", err.Error())
}

// Append appends e as a whole ErrorResponse message. NUL bytes, which no field
// can hold, are left out.
func (e *Error) Append(dst []byte) []byte { return e.append(dst, 'E', SeverityError) }

// AppendNotice appends e as a whole NoticeResponse message.
func (e *Error) AppendNotice(dst []byte) []byte { return e.append(dst, 'N', SeverityNotice) }

func (e *Error) append(dst []byte, typ byte, severity string) []byte {
	dst, start := beginMessage(dst, typ)
	severity = orElse(e.Severity, severity)
	dst = appendField(dst, 'S', orElse(e.LocalizedSeverity, severity))
	dst = appendField(dst, 'V', severity)
	dst = appendField(dst, 'C', orElse(e.Code, InternalError))
	// The message is always there: libpq and others rely on it.
	dst = append(dst, 'M')
	dst = appendCString(dst, e.Message)
	dst = appendField(dst, 'D', e.Detail)
	dst = appendField(dst, 'H', e.Hint)
	dst = appendNumber(dst, 'P', e.Position)
	dst = appendNumber(dst, 'p', e.InternalPosition)
	dst = appendField(dst, 'q', e.InternalQuery)
	dst = appendField(dst, 'W', e.Where)
	dst = appendField(dst, 's', e.Schema)
	dst = appendField(dst, 't', e.Table)
	dst = appendField(dst, 'c', e.Column)
	dst = appendField(dst, 'd', e.DataType)
	dst = appendField(dst, 'n', e.Constraint)
	dst = appendField(dst, 'F', e.File)
	dst = appendNumber(dst, 'L', e.Line)
	dst = appendField(dst, 'R', e.Routine)
	for _, u := range e.Unknown {
		if u.Type != 0 {
			dst = appendField(dst, u.Type, u.Value)
		}
	}
	return endMessage(append(dst, 0), start)
}

// ParseError decodes the body of an ErrorResponse or a NoticeResponse, without
// its header. Everything is copied out of body. A number that is none is taken
// as absent; fields of unknown types are kept; of a field that comes twice the
// last one counts.
func ParseError(body []byte) (*Error, error) {
	e := &Error{}
	for {
		if len(body) == 0 {
			return nil, errInsufficientData
		}
		typ := body[0]
		body = body[1:]
		if typ == 0 {
			break
		}
		end := bytes.IndexByte(body, 0)
		if end < 0 {
			return nil, errInvalidString
		}
		e.setField(typ, string(body[:end]))
		body = body[end+1:]
	}
	if len(body) != 0 {
		return nil, errInvalidFormat
	}
	if e.Severity == "" {
		// Servers before 9.6 and some poolers send S alone.
		e.Severity, e.LocalizedSeverity = e.LocalizedSeverity, ""
	} else if e.LocalizedSeverity == e.Severity {
		e.LocalizedSeverity = ""
	}
	return e, nil
}

func (e *Error) setField(typ byte, value string) {
	switch typ {
	case 'S':
		e.LocalizedSeverity = value
	case 'V':
		e.Severity = value
	case 'C':
		e.Code = value
	case 'M':
		e.Message = value
	case 'D':
		e.Detail = value
	case 'H':
		e.Hint = value
	case 'P':
		e.Position = parseNumber(value)
	case 'p':
		e.InternalPosition = parseNumber(value)
	case 'q':
		e.InternalQuery = value
	case 'W':
		e.Where = value
	case 's':
		e.Schema = value
	case 't':
		e.Table = value
	case 'c':
		e.Column = value
	case 'd':
		e.DataType = value
	case 'n':
		e.Constraint = value
	case 'F':
		e.File = value
	case 'L':
		e.Line = parseNumber(value)
	case 'R':
		e.Routine = value
	default:
		e.Unknown = append(e.Unknown, UnknownField{typ, value})
	}
}

func parseNumber(s string) int32 {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

func appendField(dst []byte, typ byte, value string) []byte {
	if value == "" {
		return dst
	}
	return appendCString(append(dst, typ), value)
}

func appendNumber(dst []byte, typ byte, n int32) []byte {
	if n == 0 {
		return dst
	}
	return append(strconv.AppendInt(append(dst, typ), int64(n), 10), 0)
}

// appendCString appends s and a NUL. NUL bytes in s are left out, since the
// peer would take what follows the first for the next field.
func appendCString(dst []byte, s string) []byte {
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	return append(append(dst, s...), 0)
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

// beginMessage appends a message's type and room for its length. start is for
// endMessage.
func beginMessage(dst []byte, typ byte) (_ []byte, start int) {
	return append(dst, typ, 0, 0, 0, 0), len(dst)
}

// endMessage sets the length of the message that began at start.
func endMessage(dst []byte, start int) []byte {
	binary.BigEndian.PutUint32(dst[start+1:], uint32(len(dst)-start-1))
	return dst
}
