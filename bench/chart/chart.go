// Package chart draws the plots of a benchmark's report as SVG: lines over an axis that
// may be logarithmic or count nines, and stacked bars. Colours and fonts are left to the
// style sheet of the page: what is drawn has classes.
//
// It knows nothing of what is plotted.
//
// The governing idea: a plot is drawn for a width in pixels at which its text can be
// read, once for a screen and once for a phone, and never scaled down to fit.
package chart

import (
	"fmt"
	"html/template"
	"math"
	"strconv"
	"strings"
)

// Widths for which plots are drawn, in pixels. Text is of 12 pixels there.
const (
	Wide   = 600
	Narrow = 340
)

// A Kind is how an axis places values.
type Kind int

const (
	Linear  Kind = iota // from 0
	Log                 // values above 0
	Nines               // number 1 is 90%, number 2 is 99%, and so on
	Ordinal             // 0, 1, 2 ... are the axis's Names
)

// Median is where 50% is on an axis of Nines.
const Median = 0.30103

// Axis is one of the two axes of a plot.
type Axis struct {
	Label string // what is on it, with its unit
	Kind  Kind
	Names []string // of an Ordinal
}

// Point is one point of a line, with what it is the median of.
type Point struct {
	X, Y      float64
	Low, High float64
	Title     string // shown when the pointer is on it; "": the point gets no marker
}

// Series is one line.
type Series struct {
	Name   string
	Class  string // of the style sheet
	Points []Point
}

// Mark is a bound that is drawn as a line across the plot from an X to another.
type Mark struct{ From, To, Y float64 }

// Lines is a plot of lines.
type Lines struct {
	Title  string // for those who don't see it
	X, Y   Axis
	Series []Series
	Marks  []Mark
}

const (
	textWidth  = 6.6 // of a character of 12 pixels, on the average
	lineHeight = 15
)

// box is where the values of a plot are drawn.
type box struct{ left, top, right, bottom float64 }

// scale places the values of one axis.
type scale struct {
	axis     Axis
	min, max float64 // on the scale
	from, to float64 // in pixels
	ticks    []tick
}

type tick struct {
	at   float64 // on the scale
	text string
}

func (s *scale) value(v float64) float64 {
	if s.axis.Kind == Log {
		return math.Max(s.min, math.Log10(v)) // 0 is at the lower end
	}
	return v
}

// at is the pixel of a value.
func (s *scale) at(v float64) float64 { return s.place(s.value(v)) }

func (s *scale) place(v float64) float64 {
	return s.from + (v-s.min)/(s.max-s.min)*(s.to-s.from)
}

// newScale makes a scale for values from low to high, with about so many ticks.
func newScale(a Axis, low, high float64, ticks int) *scale {
	s := &scale{axis: a}
	switch a.Kind {
	case Ordinal:
		s.min, s.max = -0.5, float64(len(a.Names))-0.5
		for i, name := range a.Names {
			s.ticks = append(s.ticks, tick{float64(i), name})
		}
	case Nines:
		s.min, s.max = 0, math.Max(1, high)
		s.ticks = []tick{{0, Percentile(0)}, {Median, Percentile(Median)}}
		for i := 1; float64(i) <= s.max+1e-9; i++ {
			s.ticks = append(s.ticks, tick{float64(i), Percentile(float64(i))})
		}
	case Log:
		s.logarithmic(low, high, ticks)
	default:
		step := niceStep(high, ticks)
		s.max = math.Max(step, math.Ceil(high/step-1e-9)*step)
		for i := 0; float64(i)*step <= s.max+step/2; i++ {
			s.ticks = append(s.ticks, tick{float64(i) * step, Number(float64(i) * step)})
		}
	}
	return s
}

// logarithmic ends at the values 1, 2 and 5 of each decade, or at decades where the range
// is wide.
func (s *scale) logarithmic(low, high float64, ticks int) {
	if high <= 0 {
		high = 1
	}
	low = math.Max(low, high*1e-6) // what is less, 0 above all, has no place of its own
	steps := []float64{1, 2, 5}
	if math.Log10(high/low)*3 > float64(ticks)+2 {
		steps = steps[:1]
	}
	before, after := math.Inf(-1), math.Inf(1)
	var inside []float64
	for e := math.Floor(math.Log10(low)) - 1; e <= math.Ceil(math.Log10(high))+1; e++ {
		for _, step := range steps {
			switch v := step * math.Pow(10, e); {
			case v <= low*1.0001:
				before = v
			case v >= high*0.9999:
				after = math.Min(after, v)
			default:
				inside = append(inside, v)
			}
		}
	}
	s.min, s.max = math.Log10(before), math.Log10(after)
	for _, v := range append(append([]float64{before}, inside...), after) {
		s.ticks = append(s.ticks, tick{math.Log10(v), Number(v)})
	}
}

// niceStep is 1, 2 or 5 times a power of ten.
func niceStep(high float64, ticks int) float64 {
	if high <= 0 {
		return 1
	}
	rough := high / float64(ticks)
	power := math.Pow(10, math.Floor(math.Log10(rough)))
	for _, m := range []float64{1, 2, 5, 10} {
		if m*power >= rough*0.9999 {
			return m * power
		}
	}
	return 10 * power
}

// Number writes a value as short as can be, with its thousands apart.
func Number(v float64) string {
	if math.Abs(v) < 1000 {
		// Six digits, since steps add up to 0.30000000000000004 and the like.
		rounded, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 6, 64), 64)
		return strconv.FormatFloat(rounded, 'f', -1, 64)
	}
	s := strconv.FormatFloat(v, 'f', -1, 64)
	whole, fraction, _ := strings.Cut(s, ".")
	var b strings.Builder
	for i, c := range whole {
		if i > 0 && (len(whole)-i)%3 == 0 && whole[i-1] != '-' {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	if fraction != "" {
		b.WriteString("." + fraction[:1])
	}
	return b.String()
}

// Percentile writes what a place on an axis of nines is.
func Percentile(nines float64) string {
	digits := int(math.Max(0, math.Round(nines)-2))
	return strconv.FormatFloat(100*(1-math.Pow(10, -nines)), 'f', digits, 64) + "%"
}

// drawing is an SVG under way.
type drawing struct {
	strings.Builder
	width, height float64
}

func (d *drawing) add(format string, args ...any) { fmt.Fprintf(d, format, args...) }

func (d *drawing) text(class string, x, y float64, anchor, text string) {
	d.add(`<text class="%s" x="%.1f" y="%.1f" text-anchor="%s">%s</text>`, class, x, y, anchor, template.HTMLEscapeString(text))
}

// svg ends a drawing. class tells the style sheet for which screens it is.
func (d *drawing) svg(class, title string) template.HTML {
	return template.HTML(fmt.Sprintf(`<svg class="%s" viewBox="0 0 %.0f %.0f" role="img" aria-label="%s">%s</svg>`,
		class, d.width, d.height, template.HTMLEscapeString(title), d.String()))
}

// both draws for both widths.
func both(draw func(width float64, class string) template.HTML) template.HTML {
	return draw(Wide, "wide") + draw(Narrow, "narrow")
}

// SVG is the plot, for both widths: the style sheet shows one of them.
func (l Lines) SVG() template.HTML { return both(l.draw) }

func (l Lines) draw(width float64, class string) template.HTML {
	height := 300.0
	if width == Narrow {
		height = 260
	}
	d := &drawing{width: width, height: height}
	xLow, xHigh, yLow, yHigh := l.ranges()
	y := newScale(l.Y, yLow, yHigh, 5)
	b := box{left: 8, top: lineHeight + 14, right: width - 14, bottom: height - 2*lineHeight - 10}
	longest := 0
	for _, t := range y.ticks {
		longest = max(longest, len(t.text))
	}
	b.left += float64(longest)*textWidth + 4
	x := newScale(l.X, xLow, xHigh, int((b.right-b.left)/90))
	x.from, x.to, y.from, y.to = b.left, b.right, b.bottom, b.top
	d.axes(b, x, y)
	for _, m := range l.Marks {
		d.add(`<path class="bound" d="M%.1f %.1fH%.1f"/>`, x.at(m.From), y.at(m.Y), x.at(m.To))
	}
	for i, s := range l.Series {
		l.series(d, s, x, y, l.dodge(i))
	}
	return d.svg(class, l.Title)
}

// dodge moves the markers of an Ordinal apart, so that whiskers don't hide each other.
func (l Lines) dodge(i int) float64 {
	if l.X.Kind != Ordinal {
		return 0
	}
	return (float64(i) - float64(len(l.Series)-1)/2) * 5
}

func (l Lines) ranges() (xLow, xHigh, yLow, yHigh float64) {
	xLow, yLow = math.Inf(1), math.Inf(1)
	for _, s := range l.Series {
		for _, p := range s.Points {
			xLow, xHigh = math.Min(xLow, p.X), math.Max(xHigh, p.X)
			yLow, yHigh = math.Min(yLow, math.Min(p.Low, p.Y)), math.Max(yHigh, math.Max(p.High, p.Y))
		}
	}
	for _, m := range l.Marks {
		yLow, yHigh = math.Min(yLow, m.Y), math.Max(yHigh, m.Y)
	}
	if math.IsInf(yLow, 1) {
		return 0, 1, 1, 10
	}
	return xLow, xHigh, yLow, yHigh
}

// axes draws the frame, the ticks as far as there is room for their texts, and labels.
func (d *drawing) axes(b box, x, y *scale) {
	for _, t := range y.ticks {
		at := y.place(t.at)
		d.add(`<path class="grid" d="M%.1f %.1fH%.1f"/>`, b.left, at, b.right)
		d.text("tick", b.left-6, at+4, "end", t.text)
	}
	d.text("label", 0, 11, "start", y.axis.Label)
	d.xAxis(b, x)
}

func (d *drawing) xAxis(b box, x *scale) {
	free := math.Inf(-1) // where the next text may begin
	for _, t := range x.ticks {
		at := x.place(t.at)
		if x.axis.Kind != Ordinal {
			d.add(`<path class="grid" d="M%.1f %.1fV%.1f"/>`, at, b.top, b.bottom)
		}
		half := float64(len(t.text)) * textWidth / 2
		// A text at the edge stays within the drawing.
		middle := math.Min(math.Max(at, half), d.width-half)
		if middle-half < free {
			continue
		}
		free = middle + half + 8
		d.text("tick", middle, b.bottom+lineHeight+2, "middle", t.text)
	}
	d.add(`<path class="axis" d="M%.1f %.1fH%.1f"/>`, b.left, b.bottom, b.right)
	d.text("label", (b.left+b.right)/2, b.bottom+2*lineHeight+6, "middle", x.axis.Label)
}

// series draws one line: a band where there are no markers, else whiskers.
func (l Lines) series(d *drawing, s Series, x, y *scale, dodge float64) {
	var line, up, down strings.Builder
	for i, p := range s.Points {
		verb := "L"
		if i == 0 {
			verb = "M"
		}
		fmt.Fprintf(&line, "%s%.1f %.1f", verb, x.at(p.X)+dodge, y.at(p.Y))
		fmt.Fprintf(&up, "%s%.1f %.1f", verb, x.at(p.X), y.at(p.High))
		q := s.Points[len(s.Points)-1-i]
		fmt.Fprintf(&down, "L%.1f %.1f", x.at(q.X), y.at(q.Low))
	}
	d.add(`<g class="%s">`, s.Class)
	if len(s.Points) > 0 && s.Points[0].Title == "" {
		d.add(`<path class="band" d="%s%sZ"/>`, up.String(), down.String())
	}
	d.add(`<path class="line" d="%s"/>`, line.String())
	for _, p := range s.Points {
		if p.Title == "" {
			continue
		}
		px, py := x.at(p.X)+dodge, y.at(p.Y)
		d.whisker(px, y.at(p.Low), px, y.at(p.High))
		d.add(`<circle class="dot" cx="%.1f" cy="%.1f" r="3.5"><title>%s</title></circle>`, px, py, template.HTMLEscapeString(p.Title))
	}
	d.add(`</g>`)
}

// whisker draws a line with a short bar at each end.
func (d *drawing) whisker(x1, y1, x2, y2 float64) {
	if x1 == x2 {
		d.add(`<path class="whisker" d="M%.1f %.1fV%.1fM%.1f %.1fh6M%.1f %.1fh6"/>`, x1, y1, y2, x1-3, y1, x1-3, y2)
		return
	}
	d.add(`<path class="whisker" d="M%.1f %.1fH%.1fM%.1f %.1fv6M%.1f %.1fv6"/>`, x1, y1, x2, x1, y1-3, x2, y1-3)
}
