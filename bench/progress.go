package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// progress tells whoever waits what is being done: on a terminal in a line that is
// rewritten, elsewhere in a line for each run.
type progress struct {
	to       io.Writer
	terminal bool
	stop     chan struct{} // ends the goroutine that rewrites the line; nil: none runs
	wait     sync.WaitGroup
}

func newProgress(f *os.File) *progress {
	fi, err := f.Stat()
	return &progress{to: f, terminal: err == nil && fi.Mode()&os.ModeCharDevice != 0}
}

const clearLine = "\r\x1b[K"

// event writes a line that stays.
func (p *progress) event(format string, args ...any) {
	if p.terminal {
		fmt.Fprint(p.to, clearLine)
	}
	fmt.Fprintf(p.to, format+"\n", args...)
}

// begin shows on a terminal, until end, what is under way and how many transactions it
// has committed.
func (p *progress) begin(label string, d time.Duration, committed func() int64) {
	if !p.terminal {
		return
	}
	p.stop = make(chan struct{})
	began := time.Now()
	p.wait.Go(func() {
		// Twice in a second: drawing must not cost the clients anything.
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		fmt.Fprintf(p.to, "%s%s", clearLine, label)
		for {
			select {
			case <-p.stop:
				return
			case <-tick.C:
				passed := time.Since(began)
				fmt.Fprintf(p.to, "%s%s: %s/s, %v left", clearLine, label,
					thousands(float64(committed())/passed.Seconds()), max(0, d-passed).Round(time.Second))
			}
		}
	})
}

// end ends what begin began, with a line to stay unless it is empty.
func (p *progress) end(line string) {
	p.done()
	if line != "" {
		p.event("%s", line)
	}
}

// done leaves the terminal in order. It may be called at any time, also again.
func (p *progress) done() {
	if p.stop != nil {
		close(p.stop)
		p.wait.Wait()
		p.stop = nil
		fmt.Fprint(p.to, clearLine)
	}
}
