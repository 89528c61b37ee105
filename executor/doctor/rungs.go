package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"

	"layered.build/builder/executor/rootless"
)

func parent(path string) string { return filepath.Dir(path) }

// rungs tries every rung, side by side.
func rungs(ctx context.Context, store string) []Rung {
	all := rootless.Rungs()
	out := make([]Rung, len(all))
	var wg sync.WaitGroup
	for i, isolation := range all {
		wg.Go(func() { out[i] = try(ctx, isolation, store) })
	}
	wg.Wait()
	return out
}

func try(ctx context.Context, isolation rootless.Isolation, store string) Rung {
	r := Rung{Isolation: isolation}
	way, err := rootless.Choose(isolation, nil)
	var lack *rootless.Lack
	if errors.As(err, &lack) {
		r.Reason, r.Remedy = lack.Reason, lack.Remedy
		return r
	}
	if err != nil {
		r.Reason = err.Error()
		return r
	}
	if isolation == rootless.Chroot {
		r.Works, r.Driver = true, "copy"
		r.Reason = "no namespaces: weaker than the others, for containers that forbid them"
		return r
	}
	p, err := probe(ctx, way, probeAll)
	if err != nil {
		lack = way.Fails(err)
		r.Reason, r.Remedy = lack.Reason, lack.Remedy
		return r
	}
	r.Works = true
	judge(&r, p, store)
	return r
}

// judge says with what a rung works.
func judge(r *Rung, p probed, store string) {
	fs := fileSystem(existing(store))
	switch {
	case p.Overlay == "" && fs.upper:
		r.Driver = "overlay"
	case p.Fuse == "":
		r.Driver = "fuse-overlayfs"
	default:
		r.Driver = "copy"
		r.Remedy = "sudo apt-get install fuse-overlayfs   (and access to /dev/fuse)"
		if p.Overlay == "" {
			r.Reason = fmt.Sprintf("overlay has no upper directories on %s: stacks are copied", fs.name)
			r.Remedy = "put the store on another disk with --root"
		} else {
			r.Reason = "overlay cannot be mounted (" + p.Overlay + "): stacks are copied"
		}
	}
	if r.Isolation == rootless.Single && r.Reason == "" {
		r.Reason = "owners are emulated: files can have one owner only"
	}
}

// Trial is what builds ask before they rely on a rung that may not work: whether a
// container can be started on it.
func Trial(ctx context.Context) rootless.Trial {
	return func(w rootless.Way) error {
		_, err := probe(ctx, w, probeContainer)
		return err
	}
}

// probe starts the program anew on a rung and asks it what works there.
func probe(ctx context.Context, way rootless.Way, what string) (probed, error) {
	cmd := way.Command(ctx)
	cmd.Env = append(cmd.Env, probeEnv+"="+what)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		if text := strings.TrimSpace(errs.String()); text != "" {
			return probed{}, errors.New(text)
		}
		return probed{}, err
	}
	var p probed
	if err := json.Unmarshal(out.Bytes(), &p); err != nil {
		return p, fmt.Errorf("try: %w", err)
	}
	if p.Error != "" {
		return p, errors.New(p.Error)
	}
	return p, nil
}
