package conformance

import (
	"embed"
	"fmt"
	"path"
	"slices"
)

//go:embed testdata/cache/*.txt
var transcripts embed.FS

// Cases returns the suite. target is the field of RFC 9213 that the proxy reads besides
// CDN-Cache-Control; with "" the cases about it are left out.
func Cases(target string) ([]*Case, error) {
	const dir = "testdata/cache"
	entries, err := transcripts.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var all []*Case
	for _, e := range entries {
		text, err := transcripts.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		cases, err := parse(e.Name(), string(text), target)
		if err != nil {
			return nil, err
		}
		all = append(all, cases...)
	}
	return order(all)
}

// order sorts cases so that each stands after those it needs.
func order(cases []*Case) ([]*Case, error) {
	byName := map[string]*Case{}
	for _, c := range cases {
		if other := byName[c.Name]; other != nil {
			return nil, fmt.Errorf("%s:%d: case %s is also in %s:%d", c.File, c.Line, c.Name, other.File, other.Line)
		}
		byName[c.Name] = c
		c.Needs = slices.DeleteFunc(c.Needs, func(name string) bool { return name == c.Name })
	}
	o := &ordering{byName: byName, state: map[*Case]int{}}
	for _, c := range cases {
		if err := o.visit(c); err != nil {
			return nil, err
		}
	}
	return o.sorted, nil
}

type ordering struct {
	byName map[string]*Case
	state  map[*Case]int // 1: on the way, 2: done
	sorted []*Case
}

func (o *ordering) visit(c *Case) error {
	switch o.state[c] {
	case 1:
		return fmt.Errorf("%s:%d: case %s needs itself in the end", c.File, c.Line, c.Name)
	case 2:
		return nil
	}
	o.state[c] = 1
	for _, name := range c.Needs {
		need := o.byName[name]
		if need == nil {
			return fmt.Errorf("%s:%d: case %s needs %q, which does not exist", c.File, c.Line, c.Name, name)
		}
		if err := o.visit(need); err != nil {
			return err
		}
	}
	o.state[c] = 2
	o.sorted = append(o.sorted, c)
	return nil
}
