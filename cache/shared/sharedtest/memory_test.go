package sharedtest

import (
	"testing"

	"layered.build/builder/cache/shared"
)

func TestMemory(t *testing.T) {
	Run(t, func(*testing.T) Opener {
		m := &Memory{}
		return func() shared.Backend { return m }
	})
}
