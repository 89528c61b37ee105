package sign

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"layered.build/builder/parser/mistake"
)

const (
	commandPrefix = "cmd:"
	// commandTime is how long a program may take to sign.
	commandTime = time.Minute
	// maxAnswer is how much is read of what a program says.
	maxAnswer = 4 << 10
)

// Signer signs with one private key.
type Signer struct {
	key     ed25519.PrivateKey
	command string // of a key that is elsewhere
}

// NewSigner reads a private key: the path of a file or env:NAME (PEM, PKCS #8), or
// cmd:COMMAND, which /bin/sh runs: it gets the message on its standard input, and writes
// the signature, as 64 bytes or as text in base64 or hexadecimal. Errors are mistakes.
func NewSigner(name string, getenv func(string) string) (*Signer, error) {
	if command, ok := strings.CutPrefix(name, commandPrefix); ok {
		if strings.TrimSpace(command) == "" {
			return nil, mistake.New("sign-key=cmd: the command is missing")
		}
		return &Signer{command: command}, nil
	}
	key, err := readPrivate(name, getenv)
	if err != nil {
		return nil, mistake.New("sign-key=%s: %w", name, err)
	}
	return &Signer{key: key}, nil
}

// Public is the public key; nil: it is not known.
func (s *Signer) Public() ed25519.PublicKey {
	if s.key == nil {
		return nil
	}
	return s.key.Public().(ed25519.PublicKey)
}

// Sign returns the signature of a message.
func (s *Signer) Sign(ctx context.Context, message []byte) ([]byte, error) {
	if s.key != nil {
		return ed25519.Sign(s.key, message), nil
	}
	ctx, cancel := context.WithTimeout(ctx, commandTime)
	defer cancel()
	var out, said limited
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", s.command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(message), &out, &said
	cmd.WaitDelay = time.Second // what it has started may keep its output open
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("the program of sign-key: %w%s", err, said.last())
	}
	return decode(out.data)
}

// decode reads a signature as programs print it.
func decode(data []byte) ([]byte, error) {
	text := strings.Join(strings.Fields(string(data)), "")
	if len(data) == ed25519.SignatureSize {
		return data, nil
	}
	if b, err := hex.DecodeString(text); err == nil && len(b) == ed25519.SignatureSize {
		return b, nil
	}
	if b, err := base64.StdEncoding.DecodeString(text); err == nil && len(b) == ed25519.SignatureSize {
		return b, nil
	}
	return nil, errors.New("the program of sign-key printed no signature of ed25519: 64 bytes, or these in base64 or hexadecimal")
}

// limited keeps the beginning of what is written.
type limited struct{ data []byte }

// Write implements io.Writer.
func (l *limited) Write(p []byte) (int, error) {
	l.data = append(l.data, p[:min(len(p), maxAnswer-len(l.data))]...)
	return len(p), nil
}

// last is the last line, for an error.
func (l *limited) last() string {
	lines := strings.Split(strings.TrimSpace(string(l.data)), "\n")
	if line := lines[len(lines)-1]; line != "" {
		return fmt.Sprintf(" (%.200q)", line)
	}
	return ""
}
