package localpg

import (
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// settingsFile is included at the end of postgresql.conf and written anew at each start. So the settings are where a
// PostgreSQL user looks for them, and ALTER SYSTEM still has the last word, which it would not have over options on
// the command line. Only what this package itself relies on is given there.
const settingsFile = "localpg.conf"

const includeLine = "include_if_exists = '" + settingsFile + "'"

// defaultSettings suit several servers on one machine.
func defaultSettings(unsafe bool) map[string]string {
	m := map[string]string{
		"max_connections":           "300",
		"max_prepared_transactions": "256",
		"shared_buffers":            "128MB",
		"lc_messages":               "C", // the log is read by this package
		"log_line_prefix":           "%m [%p] %q%u@%d/%a ",
		"log_checkpoints":           "off",
	}
	if unsafe {
		// A commit reaches the kernel before the client hears of it and pages are still written whole, so all is
		// there after a kill -9 of the server. It is not after a crash of the machine.
		m["fsync"] = "off"
		// Segments are files of the data directory, so they go with it when a killed server is thrown away.
		m["dynamic_shared_memory_type"] = "mmap"
		// Many of them share a disk, or the memory that stands in for one.
		m["max_wal_size"] = "256MB"
	}
	return m
}

// ownSettings are those on the command line, and the way to have them otherwise.
var ownSettings = map[string]string{
	"port":                    "Options.Port",
	"listen_addresses":        "nothing: these servers listen on loopback only",
	"unix_socket_directories": "Options.SocketDir",
	"data_directory":          "Options.Dir",
	"config_file":             "Options.Dir",
	"logging_collector":       "nothing: the log is server.log in the data directory",
	"log_destination":         "nothing: the log is server.log in the data directory",
}

func (o *Options) arguments(port int) []string {
	settings := []string{
		"port=" + strconv.Itoa(port),
		"listen_addresses=" + loopback,
		"unix_socket_directories=" + quoteDirectory(o.SocketDir),
		"logging_collector=off",
		"log_destination=stderr",
	}
	args := []string{"-D", o.Dir}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	return args
}

// quoteDirectory makes one element of a comma-separated list.
func quoteDirectory(dir string) string {
	if dir == "" {
		return ""
	}
	return `"` + strings.ReplaceAll(dir, `"`, `""`) + `"`
}

var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$`)

func checkSettings(m map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if !settingName.MatchString(name) {
			return fmt.Errorf("setting %q: not a setting's name", name)
		}
		if instead, own := ownSettings[strings.ToLower(name)]; own {
			return fmt.Errorf("setting %q can't be given here; use %s", name, instead)
		}
		if strings.ContainsAny(m[name], "\n\r\x00") {
			return fmt.Errorf("setting %q: line break in its value", name)
		}
	}
	return nil
}

// renderSettings writes the settings file's text.
func renderSettings(o *Options) string {
	m := defaultSettings(o.Unsafe)
	for name, value := range o.Settings {
		m[strings.ToLower(name)] = value
	}
	var b strings.Builder
	b.WriteString("# Written at each start of the server; use ALTER SYSTEM or postgresql.auto.conf for changes that stay.\n")
	quote := strings.NewReplacer(`'`, `''`, `\`, `\\`)
	for _, name := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, quote.Replace(m[name]))
	}
	return b.String()
}

// configure writes what Options say into the data directory. We may be root in a directory that belongs to another
// user, hence os.Root: no link in there leads us out of it.
func configure(dir string, o *Options, u *osUser) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	if err := replaceFile(root, settingsFile, renderSettings(o), u); err != nil {
		return err
	}
	if o.HBA != nil {
		if err := replaceFile(root, "pg_hba.conf", strings.Join(o.HBA, "\n")+"\n", u); err != nil {
			return err
		}
	}
	return includeSettings(root)
}

// includeSettings makes postgresql.conf include the settings file, if it does not yet.
func includeSettings(root *os.Root) error {
	f, err := root.OpenFile("postgresql.conf", os.O_RDWR|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 16<<20))
	if err != nil {
		return err
	}
	if slices.Contains(strings.Split(string(text), "\n"), includeLine) {
		return nil
	}
	_, err = f.WriteString("\n" + includeLine + "\n")
	return err
}

// replaceFile writes a file of the data directory such that it is the old or the new one at any time.
func replaceFile(root *os.Root, name, text string, u *osUser) (err error) {
	tmp := name + ".new"
	f, err := root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = closeErr
		}
		if err == nil {
			err = root.Rename(tmp, name)
		}
	}()
	if err := u.own(f); err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return err
}
