package where

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// What an expression may name, so that a slip does not fill the memory: as many hosts as Slurm takes in a range, with names of the
// length that it takes.
const (
	maxHosts    = 1 << 16
	maxHostName = 1024
)

// Hostlist reads Slurm's way to write many hosts, as gpu[01-04,07],login or rack[1-2]n[1-8], in the order in which scontrol show
// hostnames lists them: numbers keep the width of a range's first one; of several brackets the last counts fastest, then the first,
// the second and so on. A host named twice comes twice.
//
// It is stricter than scontrol, which mends some slips (a[1-], a[1), and takes a suffix (a[1-2]-ib), which older ones refuse.
func Hostlist(expression string) ([]string, error) {
	var hosts []string
	elements, err := splitHostlist(expression)
	if err != nil {
		return nil, err
	}
	for _, element := range elements {
		parts, err := parseHosts(element)
		if err != nil {
			return nil, fmt.Errorf("host list %q: %w", expression, err)
		}
		total := len(hosts)
		for product, i := 1, 0; i < len(parts); i++ {
			if product *= max(1, parts[i].count()); product > maxHosts-total {
				return nil, fmt.Errorf("host list %q: more than %d hosts", expression, maxHosts)
			}
		}
		hosts = appendHosts(hosts, parts)
	}
	if len(hosts) == 0 {
		return nil, errors.New("the host list is empty")
	}
	return hosts, nil
}

// splitHostlist cuts an expression at the commas and white space outside of brackets.
func splitHostlist(expression string) ([]string, error) {
	var elements []string
	start, open := 0, false
	cut := func(end int) {
		if end > start {
			elements = append(elements, expression[start:end])
		}
		start = end + 1
	}
	for i, c := range []byte(expression) {
		switch {
		case c == '[' && open, c == ']' && !open:
			return nil, fmt.Errorf("host list %q: a stray %q at byte %d", expression, string(c), i+1)
		case c == '[', c == ']':
			open = !open
		case !open && (c == ',' || c == ' ' || c == '\t' || c == '\n'):
			cut(i)
		}
	}
	if open {
		return nil, fmt.Errorf("host list %q: a bracket is not closed", expression)
	}
	cut(len(expression))
	return elements, nil
}

// hostPart is a piece of an element: text, then numbers in brackets where there are any.
type hostPart struct {
	text   string
	ranges []hostRange
}

// hostRange is lo-hi, written at least width digits wide.
type hostRange struct{ lo, hi, width int }

func (p hostPart) count() int {
	n := 0
	for _, r := range p.ranges {
		n += r.hi - r.lo + 1
	}
	return n
}

// numbers calls yield with each number as it is written.
func (p hostPart) numbers(yield func(string) bool) {
	for _, r := range p.ranges {
		for n := r.lo; n <= r.hi; n++ {
			if !yield(fmt.Sprintf("%0*d", r.width, n)) {
				return
			}
		}
	}
}

// parseHosts reads one element. Its brackets match.
func parseHosts(element string) ([]hostPart, error) {
	var parts []hostPart
	named := 0
	for element != "" {
		text, rest, bracket := strings.Cut(element, "[")
		part := hostPart{text: text}
		if bracket {
			var list string
			list, element, _ = strings.Cut(rest, "]")
			for span := range strings.SplitSeq(list, ",") {
				r, err := parseRange(span)
				if err != nil {
					return nil, err
				}
				part.ranges = append(part.ranges, r)
			}
			if part.count() > maxHosts {
				return nil, fmt.Errorf("[%s] are more than %d hosts", list, maxHosts)
			}
		} else {
			element = ""
		}
		if named += len(text); named > maxHostName {
			return nil, fmt.Errorf("a name of more than %d bytes", maxHostName)
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func parseRange(span string) (hostRange, error) {
	from, to, isRange := strings.Cut(span, "-")
	if !isRange {
		to = from
	}
	lo, err := hostNumber(from)
	if err != nil {
		return hostRange{}, err
	}
	hi, err := hostNumber(to)
	if err != nil {
		return hostRange{}, err
	}
	if lo > hi || hi-lo >= maxHosts {
		return hostRange{}, fmt.Errorf("%s: want a range of at most %d that goes up", span, maxHosts)
	}
	return hostRange{lo, hi, len(from)}, nil
}

// hostNumber reads digits alone: no sign, no space.
func hostNumber(text string) (int, error) {
	if n, err := strconv.Atoi(text); err == nil && strings.Trim(text, "0123456789") == "" && len(text) <= 18 {
		return n, nil
	}
	return 0, fmt.Errorf("%q is no number", text)
}

// appendHosts writes out one element. Slurm takes the last bracket as the numbers of a range and the others as its prefix, which
// it writes out from the right: hence the order.
func appendHosts(hosts []string, parts []hostPart) []string {
	var brackets []int
	for i, part := range parts {
		if len(part.ranges) > 0 {
			brackets = append(brackets, i)
		}
	}
	chosen := make([]string, len(parts))
	write := func() {
		var b strings.Builder
		for i, part := range parts {
			b.WriteString(part.text)
			b.WriteString(chosen[i])
		}
		hosts = append(hosts, b.String())
	}
	if len(brackets) == 0 {
		write()
		return hosts
	}
	last := brackets[len(brackets)-1]
	var choose func(prefix []int)
	choose = func(prefix []int) {
		if len(prefix) == 0 {
			for number := range parts[last].numbers {
				chosen[last] = number
				write()
			}
			return
		}
		at := prefix[len(prefix)-1]
		for number := range parts[at].numbers {
			chosen[at] = number
			choose(prefix[:len(prefix)-1])
		}
	}
	choose(brackets[:len(brackets)-1])
	return hosts
}
