package export

import (
	"context"
	"io"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry/export/layout"
	"layered.build/builder/registry/export/tree"
	"layered.build/builder/snapshot/files"
)

// Disk takes files on this machine. Relative destinations are relative to the working
// directory.
type Disk struct {
	// Stdout takes the destination "-".
	Stdout io.Writer
}

var _ Sinks = Disk{}

// File implements Sinks.
func (d Disk) File(_ context.Context, dest string, write func(io.Writer) error) error {
	if dest == "-" {
		return write(d.Stdout)
	}
	var failed error
	err := files.Write(dest, 0o644, func(w io.Writer) error {
		failed = write(w)
		return failed
	})
	if err != nil && failed == nil {
		return mistake.New("output: %w", err)
	}
	return err
}

// Layout implements Sinks.
func (Disk) Layout(_ context.Context, dest string, write func(layout.Sink) error) error {
	s, err := layout.DirSink(dest)
	if err != nil {
		return err
	}
	return write(s)
}

// Folder implements Sinks.
func (Disk) Folder(ctx context.Context, dest string, set tree.Set, empty bool) error {
	return set.WriteDir(ctx, dest, empty)
}
