package engines

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"

	"layered.build/builder/parser/mistake"
	"layered.build/builder/registry"
	"layered.build/builder/registry/export/layout"
)

// loadPodman lets podman fetch the layers that it lacks from this process.
func (s Settings) loadPodman(ctx context.Context, c *registry.Client, it layout.Item) (said string, err error) {
	if _, err := exec.LookPath(Podman); err != nil {
		return "", mistake.New("--load=podman: %w", err)
	}
	id := it.Image.ID.Encoded()
	if err := s.podman(ctx, "image", "exists", id); err != nil {
		if err := s.pullIntoPodman(ctx, c, it.Image); err != nil {
			return "", err
		}
	} else {
		said = "podman has the image"
	}
	if len(it.Names) == 0 {
		return said, nil
	}
	return said, s.podman(ctx, append([]string{"tag", id}, it.Names...)...)
}

func (s Settings) pullIntoPodman(ctx context.Context, c *registry.Client, img *registry.Image) (err error) {
	served, err := Serve(ctx, c, img)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, served.Close()) }()
	auth, err := authFile(served)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(auth)) }()
	if err := s.podman(ctx, "pull", "--quiet", "--tls-verify=false", "--authfile", auth, served.Name); err != nil {
		return err
	}
	return s.podman(ctx, "untag", img.ID.Encoded(), served.Name)
}

// authFile writes the password where podman reads it.
func authFile(s *Served) (string, error) {
	f, err := os.CreateTemp("", "builder-auth-*.json") // with mode 0600
	if err != nil {
		return "", err
	}
	token := base64.StdEncoding.EncodeToString([]byte(s.User + ":" + s.Password))
	doc := map[string]any{"auths": map[string]any{s.Host: map[string]string{"auth": token}}}
	err = errors.Join(json.NewEncoder(f).Encode(doc), f.Close())
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// podman runs podman; what it says is the error.
func (s Settings) podman(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, Podman, args...)
	cmd.Env = s.Podman
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("podman %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return nil
}

// savePodman reads an image of podman as a docker archive.
func (s Settings) savePodman(ctx context.Context, name string) (io.ReadCloser, error) {
	cmd := exec.CommandContext(ctx, Podman, "save", "--quiet", "--format", "docker-archive", name)
	cmd.Env = s.Podman
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, mistake.New("containers-storage: %w", err)
	}
	return &podmanOutput{ReadCloser: out, cmd: cmd, errs: &errs}, nil
}

// podmanOutput is what podman writes; its failure is that of Close.
type podmanOutput struct {
	io.ReadCloser
	cmd  *exec.Cmd
	errs *strings.Builder
}

// Close waits for podman.
func (p *podmanOutput) Close() error {
	_, err := io.Copy(io.Discard, p.ReadCloser)
	if werr := p.cmd.Wait(); werr != nil {
		err = errors.Join(err, fmt.Errorf("podman save: %w: %s", werr, strings.TrimSpace(p.errs.String())))
	}
	return err
}
