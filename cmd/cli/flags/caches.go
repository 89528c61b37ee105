package flags

import (
	"fmt"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/build/inputs"
)

// caches reads --cache-from and --cache-to.
func (f *Build) caches(func(string) string) (inputs.Caches, error) {
	var c inputs.Caches
	for flag, values := range map[string][]string{"--cache-from": f.cacheFrom, "--cache-to": f.cacheTo} {
		for _, v := range values {
			a, err := shared.ParseAttrs(v)
			if err != nil {
				return c, fmt.Errorf("%s %w", flag, err)
			}
			if flag == "--cache-to" {
				c.To = append(c.To, a)
			} else {
				c.From = append(c.From, a)
			}
		}
	}
	return c, nil
}
