package local

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"

	"layered.build/builder/snapshot/archive"
)

var errNoXZ = errors.New("it is compressed with xz, and the program xz is not installed")

// PlainTar returns the plain bytes of a file that may be compressed. What the
// archive package does not read itself goes through the program xz, as in docker.
// The caller closes it; the process ends at the latest then.
func PlainTar(ctx context.Context, r io.Reader) (io.ReadCloser, error) {
	br := bufio.NewReader(r)
	header, err := br.Peek(6)
	if err != nil && err != io.EOF {
		return nil, err
	}
	if archive.Detect(header) != archive.XZ {
		plain, _, err := archive.Decompress(br)
		return plain, err
	}
	program, err := exec.LookPath("xz")
	if err != nil {
		return nil, errNoXZ
	}
	ctx, cancel := context.WithCancel(ctx)
	x := &xzReader{cmd: exec.CommandContext(ctx, program, "-d", "-c", "-q"), cancel: cancel}
	x.cmd.Stdin, x.cmd.Stderr = br, &x.stderr
	if x.out, err = x.cmd.StdoutPipe(); err == nil {
		err = x.cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("run xz: %w", err)
	}
	return x, nil
}

type xzReader struct {
	cmd    *exec.Cmd
	cancel func()
	out    io.ReadCloser
	stderr bytes.Buffer
	ended  bool
}

// Read implements io.Reader.
func (x *xzReader) Read(p []byte) (int, error) {
	n, err := x.out.Read(p)
	if err == io.EOF && !x.ended {
		x.ended = true
		if werr := x.cmd.Wait(); werr != nil {
			return n, fmt.Errorf("xz: %w: %s", werr, bytes.TrimSpace(x.stderr.Bytes()))
		}
	}
	return n, err
}

// Close ends the process if it has not ended by itself.
func (x *xzReader) Close() error {
	x.cancel()
	if !x.ended {
		x.ended = true
		x.cmd.Wait() // killed
	}
	return nil
}
