//go:build !linux

package pgtest

import "os"

// place returns the directory below which the servers' files are made.
func place() string { return os.TempDir() }
