package flags

import (
	"fmt"
	"slices"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/build/inputs"
)

// noCaches stands for no shared cache, also not the default ones.
const noCaches = "none"

// caches reads --cache-from and --cache-to, and where a flag is not given what the
// environment or else the configuration says.
// withInline says that BUILDKIT_INLINE_CACHE asks for a cache in the image.
func (f *Build) caches(in Environment, withInline bool) (c inputs.Caches, err error) {
	if len(f.cacheFrom) == 0 || len(f.cacheTo) == 0 {
		if c, err = defaultCaches(in); err != nil {
			return c, err
		}
	}
	if len(f.cacheFrom) > 0 {
		if c.From, err = parseCaches("--cache-from", f.cacheFrom); err != nil {
			return c, err
		}
	}
	if len(f.cacheTo) > 0 {
		if c.To, err = parseCaches("--cache-to", f.cacheTo); err != nil {
			return c, err
		}
	}
	if !withInline || slices.ContainsFunc(c.To, func(a *shared.Attrs) bool { return a.Is("inline") }) {
		return c, nil
	}
	inline, err := shared.ParseAttrs("type=inline")
	c.To = append(c.To, inline)
	return c, err
}

// defaultCaches are those of BUILDER_CACHE, or else of config.toml.
func defaultCaches(in Environment) (c inputs.Caches, err error) {
	const variable = "BUILDER_CACHE"
	if text := in.getenv(variable); text != "" {
		both, err := parseCaches(variable, shared.SplitPlaces(text))
		for _, a := range both {
			a.SetOrigin(variable)
			if from := a.For(false); from != nil {
				c.From = append(c.From, from)
			}
			c.To = append(c.To, a.For(true))
		}
		return c, err
	}
	conf, err := in.config()
	if err != nil {
		return c, err
	}
	if c.From, err = parseCaches("config.toml: cache.from", conf.Cache.From); err != nil {
		return c, err
	}
	c.To, err = parseCaches("config.toml: cache.to", conf.Cache.To)
	return c, err
}

// parseCaches reads places; origin is where they were written.
func parseCaches(origin string, values []string) ([]*shared.Attrs, error) {
	var all []*shared.Attrs
	for _, v := range values {
		if v == "" || v == noCaches {
			continue
		}
		a, err := shared.ParseAttrs(v)
		if err != nil {
			return nil, fmt.Errorf("%s %w", origin, err)
		}
		a.SetOrigin(origin)
		all = append(all, a)
	}
	return all, nil
}
