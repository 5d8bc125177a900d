package tpch

import (
	"slices"
	"strings"
)

var (
	colours = strings.Fields(`almond antique aquamarine azure beige bisque black blanched blue blush brown burlywood
		burnished chartreuse chiffon chocolate coral cornflower cornsilk cream cyan dark deep dim dodger drab firebrick
		floral forest frosted gainsboro ghost goldenrod green grey honeydew hot indian ivory khaki lace lavender lawn
		lemon light lime linen magenta maroon medium metallic midnight mint misty moccasin navajo navy olive orange
		orchid pale papaya peach peru pink plum powder puff purple red rose rosy royal saddle salmon sandy seashell
		sienna sky slate smoke snow spring steel tan thistle tomato turquoise violet wheat white yellow`)
	types = product("STANDARD SMALL MEDIUM LARGE ECONOMY PROMO", "ANODIZED BURNISHED PLATED POLISHED BRUSHED",
		"TIN NICKEL BRASS STEEL COPPER")
	containers = product("SM LG MED JUMBO WRAP", "CASE BOX BAG JAR PKG PACK CAN DRUM")
)

// product joins one word of each list in all ways (4.2.2.13).
func product(lists ...string) []string {
	all := strings.Fields(lists[0])
	for _, list := range lists[1:] {
		var longer []string
		for _, begin := range all {
			for _, end := range strings.Fields(list) {
				longer = append(longer, begin+" "+end)
			}
		}
		all = longer
	}
	return all
}

func (d *Data) part(dst []byte, n int) []byte {
	r, w, key := d.random(partRows, n), row{b: dst}, n+1
	w.number(key)
	w.column()
	w.b = partName(w.b, &r)
	maker := r.between(1, 5)
	w.text("Manufacturer#")
	w.padded(maker, 1)
	w.text("Brand#")
	w.padded(10*maker+r.between(1, 5), 2)
	w.text(r.pick(types))
	w.number(r.between(1, 50))
	w.text(r.pick(containers))
	w.cents(retailPrice(key))
	w.comment(d, &r, 5, 22)
	w.end()
	return w.b
}

// partName appends five different colours.
func partName(dst []byte, r *random) []byte {
	chosen := make([]string, 0, 5)
	for len(chosen) < 5 {
		colour := r.pick(colours)
		if slices.Contains(chosen, colour) {
			continue
		}
		if len(chosen) > 0 {
			dst = append(dst, ' ')
		}
		dst = append(dst, colour...)
		chosen = append(chosen, colour)
	}
	return dst
}

// retailPrice is that of a part, in cents (4.2.3).
func retailPrice(part int) int { return 90_000 + part/10%20_001 + 100*(part%1000) }

// suppliersPerPart is how many suppliers have a part.
const suppliersPerPart = 4

// supplierOf is the i-th supplier of a part (4.2.3). The specification's formula gives
// four different ones if there are 240 suppliers or more; with fewer, where the step from
// one to the next could be a third or half of the way round, it is kept below a third.
func (d *Data) supplierOf(part, i int) int {
	s := d.suppliers
	step := s/4 + (part-1)/s%max(1, s/12)
	return (part+i*step)%s + 1
}

func (d *Data) partsupp(dst []byte, n int) []byte {
	r, w, part := d.random(partsuppRows, n), row{b: dst}, n+1
	for i := range suppliersPerPart {
		w.number(part)
		w.number(d.supplierOf(part, i))
		w.number(r.between(1, 9999))
		w.cents(r.between(100, 100_000))
		w.comment(d, &r, 49, 198)
		w.end()
	}
	return w.b
}
