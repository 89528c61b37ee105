package caches

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/platforms"
	units "github.com/docker/go-units"
	"github.com/spf13/cobra"

	"layered.build/builder/cache/mounts/carry"
	"layered.build/builder/cache/shared"
	"layered.build/builder/cmd/engine"
	"layered.build/builder/executor/binfmt"
	"layered.build/builder/executor/cachemount"
	"layered.build/builder/parser/mistake"
)

// target makes a place known that is written to. All mounts are, unless the options say which.
func (p Program) target(e *engine.Engine, flag, text string) (shared.Target, error) {
	a, err := shared.ParseAttrs(text)
	if err != nil {
		return shared.Target{}, fmt.Errorf("%s %w", flag, err)
	}
	to, err := shared.TakeTo(a, p.Getenv)
	if err != nil {
		return shared.Target{}, fmt.Errorf("%s: %w", flag, err)
	}
	if to.Mounts.None() {
		to.Mounts = shared.Select{All: true}
	}
	to.Strict = true
	b, err := e.OpenCache(a, true)
	return shared.Target{Backend: b, To: to}, err
}

// platformOf is a platform as contents are named after it; "" is this machine's.
func platformOf(text string) (string, error) {
	if text == "" {
		return platforms.Format(binfmt.Local()), nil
	}
	p, err := platforms.Parse(text)
	if err != nil {
		return "", mistake.New("--platform %s: %w", text, err)
	}
	return platforms.Format(platforms.Normalize(p)), nil
}

func (p Program) exportMounts() *cobra.Command {
	var to, platform string
	cmd := &cobra.Command{
		Use:   "export --to CACHE [OPTIONS] [ID...]",
		Short: "Send cache mounts of this machine (default: all) to a shared cache",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := platformOf(platform)
			if err != nil {
				return err
			}
			if to == "" {
				return mistake.New("%s needs --to", cmd.CommandPath()).WithHint("usage: %s", cmd.UseLine())
			}
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				return p.sendMounts(cmd.Context(), e, to, name, args)
			})
		},
	}
	cmd.Flags().StringVar(&to, "to", "", "the shared cache, as --cache-to takes it")
	cmd.Flags().StringVar(&platform, "platform", "", "what the contents are for (default: the platform of this machine)")
	return cmd
}

func (p Program) sendMounts(ctx context.Context, e *engine.Engine, to, platform string, ids []string) error {
	t, err := p.target(e, "--to", to)
	if err != nil {
		return err
	}
	all, err := cachemount.List(e.Root())
	if err != nil {
		return err
	}
	left := slices.Clone(ids)
	o := e.Carrying()
	o.Tell = p.tell
	c := carry.New(o)
	sent := 0
	for _, m := range all {
		if m.ID == "" || m.IsCopy() || len(ids) > 0 && !slices.Contains(ids, m.ID) {
			continue
		}
		left = slices.DeleteFunc(left, func(id string) bool { return id == m.ID })
		c.Used(carry.Name{MountName: shared.MountName{ID: m.ID, Variant: m.Variant, Platform: platform}}, m.Dir, true)
		sent++
	}
	if len(left) > 0 {
		return mistake.New("there is no cache mount %q", left[0]).WithHint("`builder cache mounts ls` lists them")
	}
	s := shared.New(shared.Options{Local: e.Cache, Store: e.Store, To: []shared.Target{t}, Mounts: c, Tell: p.tell})
	if err := s.Finish(ctx, nil); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Out, "%d cache mounts exported to %s\n", sent, t)
	return err
}

func (p Program) importMounts() *cobra.Command {
	var from, platform string
	cmd := &cobra.Command{
		Use:   "import --from CACHE [OPTIONS] [ID...]",
		Short: "Restore cache mounts (default: all) that this machine lacks, or has empty, from a shared cache",
		RunE: func(cmd *cobra.Command, args []string) error {
			name, err := platformOf(platform)
			if err != nil {
				return err
			}
			if from == "" {
				return mistake.New("%s needs --from", cmd.CommandPath()).WithHint("usage: %s", cmd.UseLine())
			}
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				return p.bringMounts(cmd.Context(), e, from, name, args)
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "the shared cache, as --cache-from takes it")
	cmd.Flags().StringVar(&platform, "platform", "", "what the contents are for (default: the platform of this machine)")
	return cmd
}

func (p Program) bringMounts(ctx context.Context, e *engine.Engine, from, platform string, ids []string) error {
	s, found, err := p.foundMounts(ctx, e, from)
	if err != nil {
		return err
	}
	o := e.Carrying()
	o.Tell, o.Find = p.tell, s.Mounts
	c := carry.New(o)
	left := slices.Clone(ids)
	done := map[shared.MountName]bool{}
	for _, m := range found { // the latest first
		if m.Platform != platform || len(ids) > 0 && !slices.Contains(ids, m.ID) || done[m.MountName] {
			continue
		}
		done[m.MountName] = true
		left = slices.DeleteFunc(left, func(id string) bool { return id == m.ID })
		tried := false
		ok, err := cachemount.Import(e.Root(), m.ID, m.Variant, func(dir string) (bool, error) {
			tried = true
			return c.Restore(ctx, carry.Name{MountName: m.MountName, Key: m.Key}, dir)
		})
		switch {
		case err != nil:
			return err
		case ok:
			fmt.Fprintf(p.Out, "%s: %d files, %s\n", m.ID, m.Files, units.HumanSize(float64(m.Size)))
		case !tried:
			fmt.Fprintf(p.Out, "%s: it has files here, or is in use, and stays as it is\n", m.ID)
		default:
			fmt.Fprintf(p.Out, "%s: it could not be restored\n", m.ID)
		}
	}
	if len(left) > 0 {
		return mistake.New("%s has no cache mount %q for %s", from, left[0], platform).WithHint("`builder cache mounts ls --from …` lists them")
	}
	return nil
}
