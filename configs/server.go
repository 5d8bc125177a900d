package configs

import (
	"errors"
	"net/url"
	"slices"
	"strings"
)

// ServerURL is the URL of a PostgreSQL server, with its password if it has one.
// It prints without the password; string(u) is the whole of it, for pgconn.
type ServerURL string

// String returns the URL with its password replaced by ***, and nothing but
// *** for an invalid URL, in which a password may be anywhere.
func (u ServerURL) String() string {
	if _, err := u.parse(); err != nil {
		return redacted
	}
	p, err := url.Parse(string(u))
	if err != nil {
		return redacted
	}
	if _, has := p.User.Password(); has {
		p.User = url.UserPassword(p.User.Username(), redacted)
	}
	q := p.Query()
	for _, name := range []string{"password", "sslpassword"} {
		if q.Has(name) {
			q.Set(name, redacted)
			p.RawQuery = q.Encode()
		}
	}
	return strings.ReplaceAll(p.String(), url.QueryEscape(redacted), redacted)
}

// GoString hides the password from %#v.
func (u ServerURL) GoString() string { return `"` + u.String() + `"` }

// MarshalText hides the password from encoders and from log/slog.
func (u ServerURL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Database returns the name of the database, empty if the URL is invalid.
func (u ServerURL) Database() string {
	s, err := u.parse()
	if err != nil {
		return ""
	}
	return s.database
}

// server is what the checks need of a URL.
type server struct {
	address  string // host and port, or socket folder and port
	database string
}

// hintedError is a message with advice, not yet with a position.
type hintedError struct{ message, hint string }

func (e *hintedError) Error() string { return e.message }

const (
	urlShape  = "write postgres://user@host:port/database"
	urlEscape = "in a user's name or a password, write the characters : / ? # [ ] @ % as %3A %2F %3F %23 %5B %5D %40 %25"
)

// sslModes are libpq's, which pgconn accepts too.
var sslModes = []string{"disable", "allow", "prefer", "require", "verify-ca", "verify-full"}

// parse checks the URL. Its errors quote nothing that could be a piece of a
// password: an unescaped / or # in one moves its rest into the path, the
// parameters or the fragment.
func (u ServerURL) parse() (server, error) {
	p, err := url.Parse(string(u))
	var urlError *url.Error
	switch {
	case errors.As(err, &urlError):
		return server{}, &hintedError{"not a valid URL", urlShape + "; " + urlEscape}
	case p.Scheme != "postgres" && p.Scheme != "postgresql":
		return server{}, &hintedError{"a server's URL begins with postgres://", urlShape}
	case p.Opaque != "":
		return server{}, &hintedError{"not a valid URL: // is missing after the scheme", urlShape}
	case p.Fragment != "" || p.RawFragment != "" || strings.Contains(string(u), "#"):
		return server{}, &hintedError{"a server's URL has no # in it", urlEscape}
	case strings.Contains(p.Host, ","):
		return server{}, &hintedError{"a URL names one server only: replicas are not supported yet", "keep the primary"}
	}
	query, err := url.ParseQuery(p.RawQuery)
	if err != nil {
		return server{}, &hintedError{"the parameters after ? in the URL are not valid", urlEscape}
	}
	s := server{database: strings.TrimPrefix(p.Path, "/")}
	if err := s.setAddress(p, query); err != nil {
		return server{}, err
	}
	switch {
	case s.database == "":
		return server{}, &hintedError{"the URL names no database", urlShape}
	case strings.ContainsAny(s.database, "/@"):
		return server{}, &hintedError{"the database's name in the URL has a / or @", urlEscape}
	case len(s.database) > maxIdentifierBytes:
		return server{}, &hintedError{"the database's name in the URL is longer than PostgreSQL's 63 bytes", ""}
	case p.User.Username() == "":
		return server{}, &hintedError{"the URL names no user", urlShape + "; the gateway reads the schema and recovers transactions as this user"}
	}
	return s, checkParameters(query)
}

// setAddress takes host and port from the URL or, for Unix-domain sockets, from
// its parameters.
func (s *server) setAddress(p *url.URL, query url.Values) error {
	host, port := p.Hostname(), p.Port()
	if query.Has("host") {
		host = query.Get("host")
	}
	if query.Has("port") {
		port = query.Get("port")
	}
	if port == "" {
		port = "5432"
	}
	if host == "" {
		return &hintedError{"the URL names no host", urlShape + ", or ?host=/folder/of/the/socket"}
	}
	if strings.Contains(host, ",") {
		return &hintedError{"a URL names one server only: replicas are not supported yet", "keep the primary"}
	}
	if n, err := parseInt(port); err != nil || n < 1 || n > 65535 {
		return &hintedError{"the URL's port is not a number from 1 to 65535", urlShape + "; " + urlEscape}
	}
	if !strings.HasPrefix(host, "/") {
		host = strings.ToLower(host)
	}
	s.address = host + " " + port
	return nil
}

func checkParameters(query url.Values) error {
	for _, name := range []string{"user", "dbname", "database"} {
		if query.Has(name) {
			return &hintedError{"the URL's parameter " + name + " is not accepted", urlShape}
		}
	}
	if query.Has("sslmode") && !slices.Contains(sslModes, query.Get("sslmode")) {
		return &hintedError{"the URL's sslmode is not one of those that PostgreSQL has", "one of " + strings.Join(sslModes, ", ")}
	}
	return nil
}
