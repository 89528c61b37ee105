package network

import (
	"fmt"
	"os"
	"testing"

	"layered.build/builder/executor/rootless/rootlesstest"
)

func TestMain(m *testing.M) {
	rootlesstest.Enter()
	if os.Getenv(noTUNEnv) != "" {
		if err := hideTUN(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
