package store

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"layered.build/builder/cmd/engine"
	"layered.build/builder/parser/mistake"
	"layered.build/builder/snapshot/portable"
)

func (p Program) export() *cobra.Command {
	dest := "-"
	cmd := &cobra.Command{
		Use:   "export [OPTIONS]",
		Short: "Write the store as an archive that any user and machine can import",
		Long: `Write images, kept runs, the build cache and cache mounts as a tar that says what owners,
modes and attributes files have, also if they are recorded or belong to ids of a user
namespace: what an ordinary tar of the folder loses. It is not compressed. Cache mounts that a
step is using are left out. Others may use the store meanwhile.`,
		Args: none,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dest == "-" && p.IsTerminal(p.Out) {
				return mistake.New("an archive is not written to a terminal").WithHint("use -o FILE")
			}
			return p.WithStore(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				return p.Write(cmd.Context(), dest, func(w io.Writer) error { return e.Export(cmd.Context(), w) })
			})
		},
	}
	cmd.Flags().StringVarP(&dest, "output", "o", "-", "file to write")
	return cmd
}

func (p Program) restore() *cobra.Command {
	return &cobra.Command{
		Use:   "import FILE|-",
		Short: "Make a new or empty store what an archive of store export holds",
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return mistake.New("%s needs a file, got %d arguments", cmd.CommandPath(), len(args)).WithHint("usage: %s", cmd.UseLine())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			in := p.In
			if args[0] != "-" {
				f, err := os.Open(args[0])
				if err != nil {
					return mistake.New("import: %w", err)
				}
				defer f.Close()
				in = f
			} else if p.IsTerminal(in) {
				return mistake.New("import reads an archive from stdin").WithHint("name a FILE")
			}
			return p.WithEngine(cmd.Context(), engine.Access{}, func(e *engine.Engine) error {
				err := e.Import(cmd.Context(), in)
				switch {
				case errors.Is(err, engine.ErrNotEmpty):
					return mistake.New("%w", err).WithHint("name another folder with --root, or remove this one with `builder store reset`")
				case errors.Is(err, portable.ErrFormat):
					return mistake.New("%w", err)
				case err != nil:
					return err
				}
				_, err = fmt.Fprintln(p.Out, "Imported into", e.Root())
				return err
			})
		},
	}
}
