package cachetest_test

import (
	"testing"

	"layered.build/builder/cache/cachetest"
)

func TestMemory(t *testing.T) {
	cachetest.Run(t, func(t *testing.T) cachetest.Subject {
		m := &cachetest.Memory{}
		return cachetest.Subject{Cache: m, Locker: m, Drop: m.Drop}
	})
}
