package registry

import (
	"time"

	"layered.build/builder/snapshot"
)

// AssembleInput is what an image is made of.
type AssembleInput struct {
	// Base is the base image's configuration with its history; nil for scratch.
	Base *ImageConfig
	// BaseStack are the base image's layers.
	BaseStack snapshot.Stack
	// Steps are the instructions after the base, in order.
	Steps []AssembleStep
	// Config is the final configuration; its rootfs and history are ignored.
	Config ImageConfig
	// Stack is the final file system; it begins with BaseStack.
	Stack snapshot.Stack
	// Epoch is SOURCE_DATE_EPOCH: new history entries and the image are not
	// dated later.
	Epoch *time.Time
}

// AssembleStep is one instruction of an image.
type AssembleStep struct {
	// CreatedBy and Comment go into the history.
	CreatedBy, Comment string
	// EmptyLayer says that the instruction only changes the configuration. One
	// that left Stack as it was is marked empty in any case.
	EmptyLayer bool
	// Stack is the file system after the instruction.
	Stack snapshot.Stack
	// Config is the configuration after the instruction (for V1 records).
	Config ImageConfig
}
