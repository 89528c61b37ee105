package thread

import (
	"os"
	"testing"

	"layered.build/builder/executor/rootless/rootlesstest"
)

func TestMain(m *testing.M) {
	rootlesstest.Enter()
	os.Exit(m.Run())
}
