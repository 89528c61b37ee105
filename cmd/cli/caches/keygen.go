package caches

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"layered.build/builder/cache/shared/sign"
	"layered.build/builder/parser/mistake"
)

func (p Program) keygen() *cobra.Command {
	return &cobra.Command{
		Use:   "keygen FILE",
		Short: "Make a key that signs entries of shared caches: FILE, and FILE.pub to verify them",
		Args:  exactly(1, "the file of the private key"),
		RunE: func(cmd *cobra.Command, args []string) error {
			private, public, err := sign.Generate()
			if err != nil {
				return err
			}
			if err := writeNew(args[0], private, 0o600); err != nil {
				return err
			}
			if err := writeNew(args[0]+".pub", public, 0o644); err != nil {
				return errors.Join(err, os.Remove(args[0]))
			}
			_, err = fmt.Fprintf(p.Out, "sign-key=%s\nverify-key=%s.pub\n", args[0], args[0])
			return err
		},
		Annotations: p.Outside,
	}
}

// writeNew writes a file that must not be there yet.
func writeNew(path string, data []byte, mode os.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return mistake.New("%w", err)
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}
