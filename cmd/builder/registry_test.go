package main

import (
	"encoding/pem"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	fake "github.com/google/go-containerregistry/pkg/registry"
	"github.com/rogpeppe/go-internal/testscript"

	"layered.build/builder/fixtures/oddregistry"
)

// TestRegistries runs testdata/registry/*.txtar: registries as they are found. In every
// script $OPEN, $TOKEN, $BASIC and $TLS are the addresses of registries: one that asks for
// nothing, two that ask for a token or a password of alice's ("geheim"), and one whose
// certificate is certs/ca.crt.
func TestRegistries(t *testing.T) {
	alice := oddregistry.Guard{User: "alice", Password: "geheim"}
	basic := alice
	basic.Basic = true
	testscript.Run(t, testscript.Params{
		Dir: "testdata/registry",
		Setup: func(env *testscript.Env) error {
			env.Setenv("BUILDER_ROOT", filepath.Join(env.WorkDir, "store"))
			env.Setenv("BUILDER_PROGRESS", "plain")
			env.Setenv("HOME", env.WorkDir)
			for name, mode := range map[string]oddregistry.Mode{"OPEN": nil, "TOKEN": alice.Mode, "BASIC": basic.Mode} {
				modes := []oddregistry.Mode{mode}
				if mode == nil {
					modes = nil
				}
				env.Setenv(name, oddregistry.Start(t, newFake(), modes...).Host)
			}
			secure := httptest.NewUnstartedServer(newFake())
			secure.Config.ErrorLog = log.New(io.Discard, "", 0)
			secure.StartTLS()
			env.Defer(secure.Close)
			env.Setenv("TLS", strings.TrimPrefix(secure.URL, "https://"))
			certs := filepath.Join(env.WorkDir, "certs")
			if err := os.MkdirAll(certs, 0o755); err != nil {
				return err
			}
			ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})
			return os.WriteFile(filepath.Join(certs, "ca.crt"), ca, 0o644)
		},
	})
}

func newFake() http.Handler { return fake.New(fake.Logger(log.New(io.Discard, "", 0))) }
