package configs

// Secret is a text that is not to be seen: it prints as ***, also in logs and
// in JSON. string(s) gives the text.
type Secret string

const redacted = "***"

// String returns ***, or nothing for the empty secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return redacted
}

// GoString hides the text from %#v.
func (s Secret) GoString() string { return `"` + s.String() + `"` }

// MarshalText hides the text from encoders and from log/slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }
