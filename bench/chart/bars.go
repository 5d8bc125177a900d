package chart

import (
	"html/template"
	"math"
)

// Segment is a part of a bar.
type Segment struct {
	Class string
	Value float64
}

// Bar is one bar, of one or several segments.
type Bar struct {
	Group     string // a heading above those bars that follow each other with the same
	Label     string
	Text      string // the figures, in words
	Segments  []Segment
	Low, High float64 // of the whole
	Bound     float64 // up to where it may be, or its first segment; 0: there is no bound
}

// Bars is a plot of horizontal bars on one axis. Labels stand above their bars, where
// nothing is in their way on any screen.
type Bars struct {
	Title string
	Axis  Axis
	Bars  []Bar
}

const (
	barHeight   = 13
	rowHeight   = 40
	groupHeight = 22
)

// SVG is the plot, for both widths.
func (b Bars) SVG() template.HTML { return both(b.draw) }

func (b Bars) draw(width float64, class string) template.HTML {
	high := 0.0
	for _, bar := range b.Bars {
		high = math.Max(high, math.Max(math.Max(bar.High, bar.total()), bar.Bound))
	}
	d := &drawing{width: width}
	x := newScale(b.Axis, 0, high, int(width/110))
	frame := box{left: 1, right: width - 14}
	x.from, x.to = frame.left, frame.right
	frame.bottom = b.bottom()
	d.height = frame.bottom + 2*lineHeight + 10
	d.xAxis(frame, x)
	top, group := 0.0, ""
	for _, bar := range b.Bars {
		if bar.Group != group {
			group = bar.Group
			top += groupHeight
			d.text("group", 0, top-6, "start", group)
		}
		bar.draw(d, x, top, width)
		top += rowHeight
	}
	return d.svg(class, b.Title)
}

func (b Bars) bottom() float64 {
	y, group := 0.0, ""
	for _, bar := range b.Bars {
		if bar.Group != group {
			group = bar.Group
			y += groupHeight
		}
		y += rowHeight
	}
	return y
}

func (b Bar) total() (sum float64) {
	for _, s := range b.Segments {
		sum += s.Value
	}
	return sum
}

func (b Bar) draw(d *drawing, x *scale, top, width float64) {
	// The texts have a background, since the grid is behind them.
	d.add(`<rect class="paper" x="0" y="%.1f" width="%.1f" height="16"/>`, top+1, width)
	d.text("name", 0, top+13, "start", b.Label)
	d.text("figure", x.to, top+13, "end", b.Text)
	at, y := 0.0, top+18
	for _, s := range b.Segments {
		if s.Value > 0 {
			d.add(`<rect class="%s" x="%.1f" y="%.1f" width="%.2f" height="%d"/>`, s.Class, x.at(at), y, math.Max(0.5, x.at(at+s.Value)-x.at(at)), barHeight)
		}
		at += s.Value
	}
	if b.High > b.Low {
		d.whisker(x.at(b.Low), y+barHeight/2.0, x.at(b.High), y+barHeight/2.0)
	}
	if b.Bound > 0 {
		d.add(`<path class="bound" d="M%.1f %.1fv%d"/>`, x.at(b.Bound), y-3, barHeight+6)
	}
}
