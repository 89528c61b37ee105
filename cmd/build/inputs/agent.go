package inputs

import (
	"context"
	"errors"
	"io"
	"os"

	"layered.build/builder/executor/local"
)

// gitAgent is the socket of the ssh agent for git: that of the agent "default", else the
// user's. Stop ends what was begun for it.
func gitAgent(spec Spec) (sock string, stop func() error, err error) {
	if spec.Agents["default"] == nil {
		return spec.AgentSocket, func() error { return nil }, nil
	}
	dir, err := os.MkdirTemp("", "builder-ssh-")
	if err != nil {
		return "", nil, err
	}
	sock, end, err := local.AgentSocket(dir, func() (io.ReadWriteCloser, error) {
		return spec.Agents.Dial(context.Background(), "default")
	})
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	return sock, func() error { return errors.Join(end(), os.RemoveAll(dir)) }, nil
}
