// Package assemble makes images of what a build did: the configuration with its
// history, and Docker's record of every instruction. The same input gives the same
// bytes.
package assemble

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"layered.build/builder/registry/errdef"
	"layered.build/builder/registry/image"
	"layered.build/builder/snapshot"
)

// Input is what an image is made of.
type Input struct {
	// Base is the base image's configuration with its history; nil for scratch.
	Base *image.Config
	// BaseStack are the base image's layers.
	BaseStack snapshot.Stack
	// BaseV1 is the id of the V1 record that the base image ended with, "" if it
	// has none: the parent of the first record.
	BaseV1 string
	// Steps are the instructions after the base, in order.
	Steps []Step
	// Config is the final configuration; its rootfs, history and creation time
	// are ignored.
	Config image.Config
	// Stack is the final file system; it begins with BaseStack.
	Stack snapshot.Stack
	// Epoch is SOURCE_DATE_EPOCH: new history entries and the image are not
	// dated later.
	Epoch *time.Time
}

// Step is one instruction of an image.
type Step struct {
	// CreatedBy and Comment go into the history.
	CreatedBy, Comment string
	// Cmd is what ran, for the container_config of the V1 record; nil for an
	// instruction that ran nothing.
	Cmd []string
	// Name is what the step is called that made the layers, if there are any.
	Name string
	// Unlisted says that the instruction has no line in the history and no record.
	Unlisted bool
	// EmptyLayer says that the instruction only changes the configuration. One
	// that left Stack as it was is marked empty in any case.
	EmptyLayer bool
	// Stack is the file system after the instruction.
	Stack snapshot.Stack
	// Config is the configuration after the instruction (for V1 records).
	Config image.Config
	// Left, unless nil, is used instead of Config: it can tell what was added, so that
	// many instructions do not take the square of their number.
	Left Configuration
}

// errUnnamed says that nobody asked for the layers' names before (snapshot.Store.Name).
var errUnnamed = errors.New("assemble image: a layer has no name yet")

// Image makes the image of a build: configuration with rootfs and history. The same
// input gives the same bytes. Errors match errdef.ErrInvalid.
func Image(in Input) (*image.Image, error) {
	cfg := in.Config
	if cfg.OS == "" || cfg.Architecture == "" {
		return nil, fmt.Errorf("assemble image: %w: the configuration lacks os or architecture", errdef.ErrInvalid)
	}
	if slices.ContainsFunc(in.Stack, snapshot.Layer.Unnamed) {
		return nil, errUnnamed
	}
	entries, err := newHistory(in)
	if err != nil {
		return nil, err
	}
	cfg.History = entries
	cfg.RootFS = image.RootFS(in.Stack)
	cfg.Created = lastCreated(entries)
	return image.New(cfg, in.Stack)
}
