package inputs

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"time"

	"layered.build/builder/executor"
)

// MaxSecret bounds a secret's size, in bytes, as BuildKit does.
const MaxSecret = 500 << 10

// SecretSource is where one secret comes from: a file, a variable or the output of a
// command.
type SecretSource struct{ File, Env, Cmd string }

// Secrets are the secrets of a build by id. They are read when a step needs one.
type Secrets map[string]SecretSource

var _ executor.Secrets = Secrets(nil)

// Secret implements executor.Secrets.
func (s Secrets) Secret(ctx context.Context, id string) ([]byte, error) {
	src, ok := s[id]
	if !ok {
		return nil, fmt.Errorf("secret %s: %w", id, fs.ErrNotExist)
	}
	if src.Env != "" {
		v, ok := os.LookupEnv(src.Env)
		if !ok {
			return nil, fmt.Errorf("secret %s: environment variable %s: %w", id, src.Env, fs.ErrNotExist)
		}
		return []byte(v), nil
	}
	if src.Cmd != "" {
		return commandSecret(ctx, id, src.Cmd)
	}
	f, err := os.Open(src.File)
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", id, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, MaxSecret+1))
	if err != nil {
		return nil, fmt.Errorf("secret %s: %w", id, err)
	}
	if len(b) > MaxSecret {
		return nil, fmt.Errorf("secret %s: %s is larger than %d bytes", id, src.File, MaxSecret)
	}
	return b, nil
}

// commandSecret runs a command on this machine; what it prints is the secret,
// without the line's end.
func commandSecret(ctx context.Context, id, command string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", command)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("secret %s: command %q: %w: %s", id, command, err, bytes.TrimSpace(stderr.Bytes()))
	}
	out = bytes.TrimSuffix(bytes.TrimSuffix(out, []byte("\n")), []byte("\r"))
	if len(out) > MaxSecret {
		return nil, fmt.Errorf("secret %s: command %q printed more than %d bytes", id, command, MaxSecret)
	}
	return out, nil
}
