package inputs

import (
	"fmt"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/build"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
)

// Caches are shared caches as they were asked for.
type Caches struct{ From, To []*shared.Attrs }

// Open makes the places known; nothing is asked of them yet. Errors are mistakes.
func (c Caches) Open(e *engine.Engine) (build.Caches, error) {
	var out build.Caches
	for _, a := range c.From {
		src, err := shared.TakeFrom(a, e.Getenv)
		if err != nil {
			return out, err
		}
		b, err := e.OpenCache(a, false)
		if err != nil {
			return out, err
		}
		all := []shared.Backend{b}
		if s, ok := b.(shared.Several); ok {
			all = append(all, s.Others()...)
		}
		for _, b := range all {
			out.From = append(out.From, shared.Source{Backend: b, From: src})
		}
	}
	for _, a := range c.To {
		if a.Is("inline") {
			in, err := shared.TakeInline(a, e.Getenv)
			if err != nil {
				return out, fmt.Errorf("%s: %w", a.Origin("--cache-to"), err)
			}
			out.Inline = in
			continue
		}
		to, err := shared.TakeTo(a, e.Getenv)
		if err != nil {
			return out, err
		}
		b, err := e.OpenCache(a, true)
		if err != nil {
			return out, err
		}
		out.To = append(out.To, shared.Target{Backend: b, To: to})
	}
	return out, checkTrust(out)
}

// checkTrust refuses to sign what nobody has verified: what a build imports, it exports.
func checkTrust(c build.Caches) error {
	signs := c.Inline != nil && c.Inline.Signer != nil
	for _, to := range c.To {
		signs = signs || to.Signer != nil
	}
	for _, from := range c.From {
		if signs && len(from.Verify) == 0 {
			return mistake.New("--cache-to: sign-key would sign what comes from %s unverified", from).
				WithHint("give that --cache-from a verify-key")
		}
	}
	return nil
}
