package engine

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"layered.build/builder/cache/actions"
	"layered.build/builder/cache/azblob"
	"layered.build/builder/cache/oci"
	"layered.build/builder/cache/reapi"
	"layered.build/builder/cache/s3"
	"layered.build/builder/cache/shared"
	"layered.build/builder/parser/mistake"
)

// OpenCache makes the place of a shared cache known that options ask for; to says that it
// is exported to. Options that nothing takes, and the kinds that are not known, are
// refused: errors are mistakes. The place is open until the engine is closed.
func (e *Engine) OpenCache(a *shared.Attrs, to bool) (shared.Backend, error) {
	b, err := e.openCache(a, to)
	if c, ok := b.(io.Closer); ok && err == nil {
		e.mu.Lock()
		e.places = append(e.places, c)
		e.mu.Unlock()
	}
	if err == nil {
		err = a.Left()
	}
	if err != nil {
		flag := "--cache-from"
		if to {
			flag = "--cache-to"
		}
		return nil, fmt.Errorf("%s: %w", a.Origin(flag), err)
	}
	return b, nil
}

// CacheSalt is a secret with which what explains misses is hashed before it leaves the
// machine: this store's, or what BUILDER_CACHE_SALT gives several machines.
func (e *Engine) CacheSalt() ([]byte, error) {
	if v := e.Getenv("BUILDER_CACHE_SALT"); v != "" {
		sum := sha256.Sum256([]byte("builder cache salt\n" + v))
		return sum[:], nil
	}
	return e.Cache.Salt()
}

// Getenv reads the settings of the environment.
func (e *Engine) Getenv(name string) string { return e.host.opts.Getenv(name) }

func (e *Engine) openCache(a *shared.Attrs, to bool) (shared.Backend, error) {
	switch kind := a.Kind(); kind {
	case "registry", "inline": // an image holds the one as it is the other
		return oci.NewRegistry(e.Client, a)
	case "local":
		return oci.NewLocal(a, to)
	case "s3":
		return s3.New(a, e.Getenv)
	case "azblob":
		return azblob.New(a, e.Getenv)
	case "gha":
		return actions.New(a, e.Getenv)
	case "reapi":
		return reapi.New(a, e.Getenv)
	default:
		err := mistake.New("type=%s: there is no such kind of cache", kind)
		kinds := []string{"registry", "inline", "local", "s3", "azblob", "gha", "reapi"}
		if near, ok := mistake.Nearest(kind, kinds); ok {
			return nil, err.WithHint("did you mean type=%s?", near)
		}
		return nil, err.WithHint("use %s", strings.Join(kinds, ", "))
	}
}
