package credentials

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/docker/docker-credential-helpers/client"
	"github.com/docker/docker-credential-helpers/credentials"

	"layered.build/builder/registry/config"
	"layered.build/builder/registry/progress"
)

// waitingIsTold is after how long the progress says that a helper is waited for.
const waitingIsTold = 500 * time.Millisecond

// answer is what a helper said about one registry.
type answer struct {
	mu   sync.Mutex
	done bool        // guarded by mu
	auth config.Auth // guarded by mu
	err  error       // guarded by mu
}

// help asks a helper, once. What it does not know is the zero Auth.
func (k *Keychain) help(ctx context.Context, helper, registry string) (config.Auth, error) {
	k.mu.Lock()
	a := k.answers[helper+" "+registry]
	if a == nil {
		a = &answer{}
		k.answers[helper+" "+registry] = a
	}
	k.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.done {
		a.auth, a.err = askHelper(ctx, helper, registry)
		a.done = ctx.Err() == nil
	}
	return a.auth, a.err
}

func askHelper(ctx context.Context, helper, registry string) (config.Auth, error) {
	item, tell := "waiting for docker-credential-"+helper+" to log in to "+registry, progress.Of(ctx)
	timer := time.AfterFunc(waitingIsTold, func() { tell(item, 0, -1) })
	got, err := client.Get(program(ctx, helper), registry)
	if !timer.Stop() {
		tell(item, 0, 0)
	}
	switch {
	case credentials.IsErrCredentialsNotFound(err):
		return config.Auth{}, nil
	case err != nil:
		return config.Auth{}, &HelperError{Helper: helper, reason: helperReason(err)}
	case got.Username == tokenUser:
		return config.Auth{IdentityToken: got.Secret}, nil
	}
	return config.Auth{Username: got.Username, Password: got.Secret}, nil
}

// tokenUser is the user of what is no password but a token.
const tokenUser = "<token>"

// HelperError is the failure of a credential helper, without what it printed: that may be
// a secret.
type HelperError struct {
	// Helper is NAME of docker-credential-NAME.
	Helper string
	reason string
}

// Error implements error.
func (e *HelperError) Error() string {
	return fmt.Sprintf("docker-credential-%s failed: %s", e.Helper, e.reason)
}

func helperReason(err error) string {
	text, _, _ := strings.Cut(err.Error(), ", out:")
	if i := strings.LastIndex(text, "err: "); i >= 0 {
		return text[i+len("err: "):]
	}
	return "answer not understood"
}

// program runs a helper, which ends with ctx.
func program(ctx context.Context, helper string) client.ProgramFunc {
	return func(args ...string) client.Program {
		cmd := exec.CommandContext(ctx, "docker-credential-"+helper, args...)
		cmd.Stderr, cmd.WaitDelay = os.Stderr, time.Second
		return &helperProgram{cmd}
	}
}

type helperProgram struct{ cmd *exec.Cmd }

// Output implements client.Program.
func (p *helperProgram) Output() ([]byte, error) { return p.cmd.Output() }

// Input implements client.Program.
func (p *helperProgram) Input(in io.Reader) { p.cmd.Stdin = in }
