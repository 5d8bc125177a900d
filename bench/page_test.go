package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"image"
	"image/color"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shardgate/shardgate/bench/load"
	"github.com/shardgate/shardgate/bench/measure"
	"github.com/shardgate/shardgate/bench/target"
	"github.com/shardgate/shardgate/bench/workload"
)

// pageWorkloads are enough to see everything that a page shows.
var pageWorkloads = []string{"select-by-key", "pgbench", "aggregate", "group-by", "order-limit", "select-all", "select-all-stalled", "select-ordered", "idle-clients"}

// madeUp is a report with something of everything that a page shows, of figures that are
// the same each time.
func madeUp(t *testing.T) *report {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	o := parse(t, "--rounds=5", "--clients=1,8,32", "--seed=7")
	r := &report{Options: o, Violations: []string{}, Environment: environment{Time: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC),
		Commit: "0123456789ab", Go: "go1.26.0", System: "linux/amd64", Kernel: "Linux 6.12.0", CPU: "A processor with a long name, 3.20GHz", Cores: 16, Memory: 64 << 30,
		Command: []string{"bench", "--clients", "1,8,32", "--target", "staging=…"}, Versions: map[string]string{"postgresql": "17.2"},
		Settings: map[string]string{"fsync": "on", "shared_buffers": "128MB"}}}
	for i, name := range []string{target.Shardgate, target.Postgres, "another-target-with-a-long-name", target.Direct} {
		r.Targets = append(r.Targets, &target.Target{Name: name, Store: &target.Store{Name: fmt.Sprint(i)}})
	}
	list, err := workload.ByName(pageWorkloads)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range list {
		for _, clients := range []int{1, 8, 32} {
			for _, rate := range []float64{0, 500, 12_500} {
				if rate > 0 && (clients != 8 || w.Name != "pgbench") {
					continue
				}
				r.madeUpCell(cell{workload: w, protocol: load.Simple, clients: clients, rate: rate}, rnd)
			}
		}
	}
	return r
}

func (r *report) madeUpCell(c cell, rnd *rand.Rand) {
	cr := r.add(c)
	for i, t := range r.Targets {
		if t.Name == target.Direct && c.workload.Direct == nil {
			continue
		}
		f := cr.add(t)
		median := 150 * (1 + float64(i)/3) * math.Sqrt(float64(c.clients))
		if c.workload.Clients == 1 {
			median *= 400
		}
		for range 5 {
			l := measure.NewLatency()
			n := int(5e6 * float64(c.clients) / median)
			for range min(n, 20_000) {
				l.Record(time.Duration(median*math.Exp(rnd.NormFloat64()*0.7)) * time.Microsecond)
			}
			res := &load.Result{Elapsed: 5 * time.Second, Committed: int64(float64(n) * (0.9 + rnd.Float64()/5)), Latency: l, FirstRow: l, Errors: load.Errors{}}
			if c.workload.Streams {
				res.Rows = res.Committed * 1_000_000
			}
			if c.rate > 0 {
				res.Scheduled, res.SentInTime, res.Unsent, res.Late = 1000, 940, 10, l
			}
			if i == 2 && c.clients == 32 {
				res.Errors["40001"] = load.ErrorCount{Count: 12, Example: "could not serialize access due to concurrent update"}
			}
			used := map[target.Role]time.Duration{target.Server: busy(res, 60, rnd), client: busy(res, 14, rnd)}
			if t.Name == target.Shardgate {
				used[target.Gateway] = busy(res, 27, rnd)
			}
			m := newRound(res, map[target.Role]time.Duration{target.Server: 0, client: 0, target.Gateway: 0}, used)
			if _, ok := used[target.Gateway]; !ok {
				delete(m.CPUMicros, target.Gateway)
			} else {
				idle, peak := int64(31<<20), float64(rnd.IntN(70<<20))
				f.IdleBytes, m.PeakBytes, m.Allocated = &idle, &peak, &allocated{Bytes: 310 + rnd.Float64(), Objects: 6}
			}
			if c.workload.Connecting != 0 {
				each, cpu := 9000+2000*rnd.Float64(), 1+rnd.Float64()
				m.Connected = &connected{AllInSeconds: 3 + rnd.Float64(), CPUSeconds: &cpu, BytesFirst: &each, BytesEach: &each}
			}
			f.Rounds = append(f.Rounds, m)
			f.Errors.Merge(res.Errors)
		}
	}
	cr.summarize()
}

// busy is the CPU time of about so many microseconds for each transaction.
func busy(res *load.Result, micros float64, rnd *rand.Rand) time.Duration {
	return time.Duration(float64(res.Committed) * micros * (0.9 + rnd.Float64()/5) * 1000)
}

// browser is a program that shows pages without a screen; the test is skipped without.
func browser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium-headless-shell", "chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no browser to look at the page with: install one (Debian: apt-get install chromium-headless-shell, or chromium)")
	return ""
}

// show runs the browser on a file. It returns what the browser prints and what pages say
// on the console.
func show(t *testing.T, file string, args ...string) (printed, console []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	args = append(args, "--headless", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr", "--no-first-run", "--user-data-dir="+t.TempDir(), "file://"+file)
	if os.Geteuid() == 0 {
		args = append([]string{"--no-sandbox"}, args...)
	}
	cmd := exec.CommandContext(ctx, browser(t), args...)
	cmd.WaitDelay = 5 * time.Second
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		t.Fatalf("%v\n%s", err, &said)
	}
	for line := range strings.Lines(said.String()) {
		if strings.Contains(line, "CONSOLE") {
			console = append(console, line...)
		}
	}
	return out.Bytes(), console
}

// looked is what a script in the browser has found out about the page at some width.
type looked struct {
	Width, ScrollWidth int
	Plots              int      // that are shown
	Overlaps           []string // texts of plots that are on each other
	Outside            []string // texts that leave their plot
	Smallest           float64  // text of a plot, in pixels
}

// The page fits into each width, and its texts can be read.
const lookScript = `addEventListener('load', () => {
  const found = [...document.querySelectorAll('iframe')].map(frame => {
    const d = frame.contentDocument, r = {Width: frame.clientWidth, ScrollWidth: d.documentElement.scrollWidth, Plots: 0, Overlaps: [], Outside: [], Smallest: 99};
    for (const svg of d.querySelectorAll('svg')) {
      const edge = svg.getBoundingClientRect();
      if (!edge.width) continue;
      r.Plots++;
      const texts = [...svg.querySelectorAll('text')].map(t => ({t: t.textContent, b: t.getBoundingClientRect()}));
      texts.forEach((x, i) => {
        r.Smallest = Math.min(r.Smallest, 12 * edge.width / svg.viewBox.baseVal.width);
        if (x.b.left < edge.left - 1 || x.b.right > edge.right + 1 || x.b.top < edge.top - 1 || x.b.bottom > edge.bottom + 1) r.Outside.push(x.t);
        texts.slice(i + 1).forEach(y => {
          if (x.b.left < y.b.right - 1 && y.b.left < x.b.right - 1 && x.b.top < y.b.bottom - 2 && y.b.top < x.b.bottom - 2) r.Overlaps.push(x.t + ' / ' + y.t);
        });
      });
    }
    return r;
  });
  document.body.innerHTML = '<pre id="found"></pre>';
  document.getElementById('found').textContent = JSON.stringify(found);
});`

func TestPageInABrowser(t *testing.T) {
	browser(t)
	dir := t.TempDir()
	r := madeUp(t)
	if err := r.writeReport(dir); err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(dir, pageFile))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("the page has %d octets", len(page))
	if m := regexp.MustCompile(`(?i)(src|href)="(https?:|//)[^"]*"|url\(|@import`).Find(page); m != nil {
		t.Errorf("the page needs something of the network: %s", m)
	}
	widths := []int{400, 1400}
	var outer strings.Builder
	fmt.Fprintf(&outer, "<!DOCTYPE html><meta charset=utf-8><script>%s</script>", lookScript)
	for _, w := range widths {
		fmt.Fprintf(&outer, `<iframe style="border:0;width:%dpx;height:900px" srcdoc="%s"></iframe>`, w, html.EscapeString(string(page)))
	}
	look := filepath.Join(dir, "look.html")
	if err := os.WriteFile(look, []byte(outer.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	dom, console := show(t, look, "--dump-dom", "--window-size=1500,1000", "--virtual-time-budget=10000")
	if len(console) > 0 {
		t.Errorf("on the console: %s", console)
	}
	m := regexp.MustCompile(`(?s)<pre id="found">(\[.*?)</pre>`).FindSubmatch(dom)
	if m == nil {
		t.Fatalf("the script found nothing:\n%.2000s", dom)
	}
	var found []looked
	if err := json.Unmarshal([]byte(html.UnescapeString(string(m[1]))), &found); err != nil || len(found) != len(widths) {
		t.Fatalf("%v: %s", err, m[1])
	}
	for i, f := range found {
		if f.Width != widths[i] || f.ScrollWidth > f.Width {
			t.Errorf("at %d pixels the page is %d wide in a frame of %d", widths[i], f.ScrollWidth, f.Width)
		}
		if want := len(pageWorkloads)*6 + 3; f.Plots != want {
			t.Errorf("%d plots in place of %d", f.Plots, want)
		}
		if len(f.Overlaps) > 0 || len(f.Outside) > 0 || f.Smallest < 10.5 {
			t.Errorf("at %d pixels: texts on each other %q, outside %q, and the smallest of %.1f pixels", widths[i], f.Overlaps, f.Outside, f.Smallest)
		}
	}
	for _, w := range widths {
		shot := filepath.Join(dir, fmt.Sprintf("%d.png", w))
		if _, console := show(t, filepath.Join(dir, pageFile), "--screenshot="+shot, fmt.Sprintf("--window-size=%d,2000", w)); len(console) > 0 {
			t.Errorf("on the console: %s", console)
		}
		checkScreenshot(t, shot, w)
		if keep := os.Getenv("SHARDGATE_BENCH_SCREENSHOTS"); keep != "" {
			for _, name := range []string{filepath.Base(shot), pageFile, resultsFile} {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err = errors.Join(err, os.WriteFile(filepath.Join(keep, name), b, 0o644)); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// checkScreenshot holds that a page is no blank one: that it has many colours, and those
// of the plots.
func checkScreenshot(t *testing.T, file string, width int) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if img.Bounds().Dx() != width {
		t.Errorf("a picture of %d pixels in place of %d", img.Bounds().Dx(), width)
	}
	colours := coloursOf(img)
	background := 0
	for _, n := range colours {
		background = max(background, n)
	}
	if all := img.Bounds().Dx() * img.Bounds().Dy(); len(colours) < 100 || background > all*95/100 {
		t.Errorf("%d colours, and one of them on %d of %d pixels", len(colours), background, all)
	}
	for _, c := range []color.RGBA{{0x21, 0x58, 0xc4, 255}, {0xd0, 0x6a, 0, 255}} { // t0, t1
		if colours[c] < 100 {
			t.Errorf("%d pixels of %v, which is a target's", colours[c], c)
		}
	}
}

func coloursOf(img image.Image) map[color.RGBA]int {
	colours := map[color.RGBA]int{}
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			colours[color.RGBAModel.Convert(img.At(x, y)).(color.RGBA)]++
		}
	}
	return colours
}

// What the test above relies on: errors on a page's console are seen.
func TestConsoleIsSeen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "broken.html")
	if err := os.WriteFile(file, []byte("<script>none()</script>"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, console := show(t, file, "--dump-dom"); !strings.Contains(string(console), "none is not defined") {
		t.Errorf("%q", console)
	}
}
