package flags

import (
	"fmt"
	"slices"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/build/inputs"
)

// caches reads --cache-from and --cache-to.
// withInline says that BUILDKIT_INLINE_CACHE asks for a cache in the image.
func (f *Build) caches(withInline bool) (c inputs.Caches, err error) {
	if c.From, err = parseCaches("--cache-from", f.cacheFrom); err != nil {
		return c, err
	}
	if c.To, err = parseCaches("--cache-to", f.cacheTo); err != nil || !withInline {
		return c, err
	}
	if !slices.ContainsFunc(c.To, func(a *shared.Attrs) bool { return a.Is("inline") }) {
		in, err := shared.ParseAttrs("type=inline")
		if err != nil {
			return c, err
		}
		c.To = append(c.To, in)
	}
	return c, nil
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
