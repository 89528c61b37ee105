package caches

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
)

// fromUsage describes --from.
const fromUsage = "a shared cache, as --cache-from takes it (default: the cache of this machine)"

// open makes the place of an option known, and says what is read of it.
func (p Program) open(e *engine.Engine, flag, text string) (shared.Source, error) {
	a, err := shared.ParseAttrs(text)
	if err != nil {
		return shared.Source{}, fmt.Errorf("%s %w", flag, err)
	}
	from, err := shared.TakeFrom(a, p.Getenv)
	if err != nil {
		return shared.Source{}, fmt.Errorf("%s: %w", flag, err)
	}
	b, err := e.OpenCache(a, false)
	return shared.Source{Backend: b, From: from}, err
}

// read reads the place of an option. That it holds nothing is a mistake of the user's.
func (p Program) read(ctx context.Context, e *engine.Engine, text string) (*shared.Contents, error) {
	src, err := p.open(e, "--from", text)
	if err != nil {
		return nil, err
	}
	return contents(ctx, src)
}

func contents(ctx context.Context, src shared.Source) (*shared.Contents, error) {
	c, err := shared.ReadContents(ctx, src)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, mistake.New("%w", err)
	}
	return c, err
}
