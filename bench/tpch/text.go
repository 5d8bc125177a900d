package tpch

import "strings"

// poolSize is that of the text of which comments are pieces, in octets.
const poolSize = 1 << 20

var (
	nouns = strings.Fields(`packages packages requests requests accounts accounts deposits deposits ideas instructions
		theodolites dependencies excuses platelets asymptotes dolphins multipliers warthogs attainments patterns
		hockey_players pinto_beans foxes courts epitaphs pearls orbits gifts sentiments realms`)
	verbs = strings.Fields(`sleep wake are cajole haggle nag use boost affix detect integrate maintain nod was lose
		solve run doze engage promise print hinder breach believe doubt poach snooze`)
	adjectives = strings.Fields(`furious sly careful blithe quick fluffy slow quiet ruthless thin close dogged daring
		brave stealthy permanent enticing idle busy regular final ironic even bold silent special special pending
		express unusual`)
	adverbs = strings.Fields(`sometimes always never furiously slyly carefully blithely quickly fluffily slowly quietly
		ruthlessly thinly closely doggedly daringly bravely stealthily permanently enticingly idly busily`)
	prepositions = strings.Fields(`about above according_to across after against along among around at atop before
		behind beneath beside between beyond by during except for from inside instead_of into near of on outside
		over past since through throughout to toward under until upon within without`)
	auxiliaries = strings.Fields("do may might can could should would must will shall")
	terminators = []string{".", ".", ".", ";", "?", "!", "--"}
)

// sentences are what the text is made of, as patterns of phrases (4.2.2.14): n, v and p
// are phrases around a noun, a verb and a preposition.
var sentences = []string{"nv", "nvp", "nvn", "npvn", "npvp"}

// writePool makes the text. "special" and "requests" come often enough in it for
// a hundredth of the orders to be about special requests.
func (d *Data) writePool() {
	w := &writer{random: d.random(words, 0)}
	for w.b.Len() < poolSize {
		for _, phrase := range w.pick(sentences) {
			switch phrase {
			case 'n':
				w.noun()
			case 'v':
				w.verb()
			case 'p':
				w.word(w.pick(prepositions))
				w.word("the")
				w.noun()
			}
		}
		w.b.WriteString(w.pick(terminators))
	}
	d.pool = []byte(strings.ReplaceAll(w.b.String()[:poolSize], "_", " "))
}

type writer struct {
	random
	b strings.Builder
}

func (w *writer) word(s string) {
	if w.b.Len() > 0 {
		w.b.WriteByte(' ')
	}
	w.b.WriteString(s)
}

func (w *writer) noun() {
	switch w.between(0, 3) {
	case 1:
		w.word(w.pick(adjectives))
	case 2:
		w.word(w.pick(adjectives) + ",")
		w.word(w.pick(adjectives))
	case 3:
		w.word(w.pick(adverbs))
		w.word(w.pick(adjectives))
	}
	w.word(w.pick(nouns))
}

func (w *writer) verb() {
	form := w.between(0, 3)
	if form&1 != 0 {
		w.word(w.pick(auxiliaries))
	}
	w.word(w.pick(verbs))
	if form&2 != 0 {
		w.word(w.pick(adverbs))
	}
}

// comment appends a piece of the text, of least to greatest octets.
func (d *Data) comment(dst []byte, r *random, least, greatest int) []byte {
	n := r.between(least, greatest)
	at := r.between(0, len(d.pool)-n)
	return append(dst, d.pool[at:at+n]...)
}

const addressChars = "0123456789abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ,"

// address appends 10 to 40 random characters (4.2.2.7).
func address(dst []byte, r *random) []byte {
	for range r.between(10, 40) {
		dst = append(dst, addressChars[r.between(0, len(addressChars)-1)])
	}
	return dst
}
