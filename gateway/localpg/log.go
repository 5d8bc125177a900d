package localpg

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"strings"
)

// The log is a file of the data directory, so that it goes where the cluster goes. The server appends to it; it is
// not rotated while the server runs, and at a start set aside when it has become long.
const (
	logFile      = "server.log"
	oldLogFile   = "server.log.old"
	logKeepBytes = 32 << 20 // longer, and a start begins a new one
	logReadBytes = 8 << 20  // what Log returns at most
)

// openLog opens the log for appending and says at which octet new text begins.
func openLog(dir string, u *osUser) (*os.File, int64, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	if fi, err := root.Lstat(logFile); err == nil && fi.Size() > logKeepBytes {
		if err := root.Rename(logFile, oldLogFile); err != nil {
			return nil, 0, err
		}
	}
	f, err := root.OpenFile(logFile, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, err
	}
	if err := u.own(f); err != nil {
		_ = f.Close() // nothing was written
		return nil, 0, err
	}
	fi, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, err
	}
	return f, fi.Size(), nil
}

// readLog returns the log from an octet on, or the last logReadBytes of that.
func readLog(dir string, from int64) (string, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return "", err
	}
	defer root.Close()
	f, err := root.Open(logFile)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return "", err
	}
	if from > fi.Size() {
		from = 0 // it was set aside meanwhile
	}
	from = max(from, fi.Size()-logReadBytes)
	b, err := io.ReadAll(io.NewSectionReader(f, from, fi.Size()-from))
	return string(b), err
}

// lastLines returns the last n lines of a text, without the line break at its end.
func lastLines(text string, n int) string {
	text = strings.TrimRight(text, "\n")
	at := len(text)
	for ; n > 0 && at >= 0; n-- {
		at = strings.LastIndexByte(text[:at], '\n')
	}
	if at == len(text) {
		return ""
	}
	return text[at+1:]
}
