package flags

import (
	"fmt"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/build/inputs"
)

// caches reads --cache-from and --cache-to.
func (f *Build) caches() (c inputs.Caches, err error) {
	if c.From, err = parseCaches("--cache-from", f.cacheFrom); err != nil {
		return c, err
	}
	c.To, err = parseCaches("--cache-to", f.cacheTo)
	return c, err
}

func parseCaches(flag string, values []string) ([]*shared.Attrs, error) {
	var all []*shared.Attrs
	for _, v := range values {
		a, err := shared.ParseAttrs(v)
		if err != nil {
			return nil, fmt.Errorf("%s %w", flag, err)
		}
		all = append(all, a)
	}
	return all, nil
}
