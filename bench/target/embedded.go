package target

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/shardgate/shardgate/bench/measure"
)

// Names of the targets that the benchmark starts itself.
const (
	Shardgate = "shardgate"
	Postgres  = "postgres"
	PgBouncer = "pgbouncer"
	Relay     = "relay"
	Direct    = "direct"
)

// Names are those of all that the benchmark starts.
var Names = []string{Shardgate, Postgres, PgBouncer, Relay, Direct}

// Command is the argument with which the program runs itself for the embedded targets.
const Command = "embedded"

// Options say what to start.
type Options struct {
	Shards    int  `json:"shards"`
	Unsafe    bool `json:"unsafe"` // fsync off
	PgBouncer bool `json:"pgbouncer"`
	Relay     bool `json:"relay"`
	Clients   int  `json:"clients"` // that run statements at once, at most
	// Connections is how many clients are connected to Shardgate's gateway, at most.
	Connections int    `json:"connections"`
	Dir         string `json:"dir"`    // where to make a folder for the data; "": that for temporary files
	Tables      string `json:"tables"` // of the gateway's configuration, in YAML; "": those of `shardgate dev`
	// Log takes what the gateway logs and what is being done; nil: nothing.
	Log io.Writer `json:"-"`
}

// Embedded is a cluster of shards with a gateway, and one plain PostgreSQL, in other
// processes. Its methods are for one goroutine.
type Embedded struct {
	Targets  []*Target
	Dir      string            // where the data are
	Versions map[string]string // of the programs
	Settings map[string]string // of the PostgreSQL servers, those that differ from their defaults

	cmd    *exec.Cmd
	in     io.WriteCloser
	lines  chan string // what the process says, closed at its end
	logged *logEnd
	waited chan struct{}
	once   sync.Once
}

// description is what the process that runs the targets says about them.
type description struct {
	Error    string            `json:"error,omitempty"`
	Targets  []described       `json:"targets"`
	Dir      string            `json:"dir"`
	Versions map[string]string `json:"versions"`
	Settings map[string]string `json:"settings"`
}

type described struct {
	Name         string   `json:"name"`
	URL          string   `json:"url"`
	Store        string   `json:"store"`
	Servers      []string `json:"servers"`
	Parts        []Part   `json:"parts"`
	PreparedURL  string   `json:"prepared_url"`
	PreparedNote string   `json:"prepared_note"`
	Metrics      string   `json:"metrics"`
}

// Start runs the program again as another process, which is the gateway and starts the
// servers, and waits until all are up. The process and its servers end, and their
// data are removed, with Stop or with this process, however that ends.
func Start(ctx context.Context, o Options) (*Embedded, error) {
	if o.Log == nil {
		o.Log = io.Discard
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	arg, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	e := &Embedded{cmd: exec.Command(self, Command, string(arg)), lines: make(chan string, 16), waited: make(chan struct{}), logged: &logEnd{}}
	// Ctrl-C is for us; the process hears of it from us.
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	e.cmd.Stderr = io.MultiWriter(o.Log, e.logged)
	if e.in, err = e.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := e.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := e.cmd.Start(); err != nil {
		return nil, err
	}
	go e.read(out)
	line, err := e.answer(ctx)
	if err != nil {
		e.Stop()
		return nil, fmt.Errorf("starting the cluster: %w", err)
	}
	if err := e.describe(line); err != nil {
		e.Stop()
		return nil, err
	}
	return e, nil
}

// read ends with the process's output, which ends with the process.
func (e *Embedded) read(out io.Reader) {
	defer close(e.waited)
	s := bufio.NewScanner(out)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		e.lines <- s.Text()
	}
	close(e.lines)
	e.cmd.Wait() // how it ended is of interest to nobody any more
}

func (e *Embedded) answer(ctx context.Context) (string, error) {
	select {
	case line, ok := <-e.lines:
		if !ok {
			return "", cmp.Or(e.Ended(), errors.New("the process of the gateway has ended"))
		}
		return line, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// Ended says that the process has ended by itself, with what it logged last; nil: it lives.
func (e *Embedded) Ended() error {
	select {
	case <-e.waited:
		return fmt.Errorf("the process of the gateway has ended (%v); it logged last:\n%s", e.cmd.ProcessState, e.logged)
	case <-time.After(endNoticed):
		return nil
	}
}

// endNoticed is after how long the end of the process is noticed, at most.
const endNoticed = 200 * time.Millisecond

// logEnd keeps the end of what is written to it.
type logEnd struct {
	mu   sync.Mutex
	text []byte
}

const logEndBytes = 8 << 10

// Write never fails.
func (l *logEnd) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text = append(l.text, b...)
	l.text = l.text[max(0, len(l.text)-logEndBytes):]
	return len(b), nil
}

func (l *logEnd) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return string(l.text)
}

func (e *Embedded) describe(line string) error {
	var d description
	if err := json.Unmarshal([]byte(line), &d); err != nil {
		return fmt.Errorf("the process said %q: %w", line, err)
	}
	if d.Error != "" {
		return errors.New(d.Error)
	}
	e.Dir, e.Versions, e.Settings = d.Dir, d.Versions, d.Settings
	stores := map[string]*Store{}
	for _, dt := range d.Targets {
		s := stores[dt.Store]
		if s == nil {
			s = &Store{Name: dt.Store, URL: dt.URL, Servers: dt.Servers, Own: true}
			stores[dt.Store] = s
		}
		e.Targets = append(e.Targets, &Target{Name: dt.Name, URL: dt.URL, Parts: dt.Parts, Store: s,
			PreparedURL: dt.PreparedURL, PreparedNote: dt.PreparedNote, Metrics: dt.Metrics, Profiled: dt.Name == Shardgate})
	}
	return nil
}

// Profile begins to write a CPU profile of the gateway to a file, which StopProfile ends.
func (e *Embedded) Profile(ctx context.Context, file string) error {
	return e.order(ctx, "profile "+file)
}

// Rest lets the gateway give back what memory it holds and does not need.
func (e *Embedded) Rest(ctx context.Context) error { return e.order(ctx, "rest") }

// Direct is the shards of the cluster without their gateway, for statements that are
// sent to all of them at once.
func (e *Embedded) Direct() *Target {
	d := &Target{Name: Direct}
	for _, t := range e.Targets {
		if t.Name != Shardgate {
			continue
		}
		d.Store, d.URL, d.Beside = t.Store, t.Store.Servers[0], t.Store.Servers[1:]
		for _, p := range t.Parts {
			if p.Role == Server {
				d.Parts = append(d.Parts, p)
			}
		}
	}
	return d
}

// StopProfile ends a profile.
func (e *Embedded) StopProfile(ctx context.Context) error { return e.order(ctx, "stop") }

func (e *Embedded) order(ctx context.Context, command string) error {
	if strings.ContainsAny(command, "\r\n") {
		return errors.New("a line break in a file's name")
	}
	if _, err := io.WriteString(e.in, command+"\n"); err != nil {
		return cmp.Or(e.Ended(), err)
	}
	line, err := e.answer(ctx)
	if err == nil && line != "ok" {
		err = errors.New(line)
	}
	return err
}

// stopTimeout is after how long the process is killed; its servers end then by themselves.
const stopTimeout = 60 * time.Second

// Stop ends the gateway and the servers and waits until their data are removed. It may
// be called again.
func (e *Embedded) Stop() {
	e.once.Do(func() {
		e.in.Close()
		go func() {
			for range e.lines {
			}
		}()
		select {
		case <-e.waited:
		case <-time.After(stopTimeout):
			e.cmd.Process.Kill()
			<-e.waited
		}
		if e.Dir != "" {
			os.RemoveAll(e.Dir) // if the process was killed; else it has done so
		}
	})
}

func gatewayPart(pid int) Part {
	return Part{Role: Gateway, Name: Shardgate, CPU: measure.CPU{PID: pid}}
}
