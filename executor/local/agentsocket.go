package local

import (
	"io"
	"path/filepath"
)

// AgentSocket makes a socket in dir at which connections of dial's answer, until
// stop is called. It is for programs of this machine that want an ssh agent.
func AgentSocket(dir string, dial func() (io.ReadWriteCloser, error)) (path string, stop func() error, err error) {
	l, err := listen(dir)
	if err != nil {
		return "", nil, err
	}
	return filepath.Join(dir, "agent"), forward(l, dial), nil
}
