package reapi

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"layered.build/builder/registry/grpc"
)

const (
	// services is what the names of the API's services begin with.
	services = "build.bazel.remote.execution.v2."
	// attempts is how often something is tried while it makes no progress.
	attempts = 4
	// maxPause is the longest wait that a server may ask for.
	maxPause = 30 * time.Second
)

// call makes a call with one message each way, several times if it seems worth it.
func (p *Place) call(ctx context.Context, method string, msg grpc.Message) (answer []byte, err error) {
	err = p.again(ctx, func() error {
		answer, err = p.conn.Call(ctx, method, msg)
		return err
	})
	return answer, err
}

// again calls f until it succeeds, fails for good, or has failed too often.
func (p *Place) again(ctx context.Context, f func() error) error {
	for n := 0; ; n++ {
		err := f()
		if err == nil || n == attempts-1 || !isPassing(err) {
			return p.explain(err)
		}
		if err := p.wait(ctx, n, err); err != nil {
			return p.explain(err)
		}
	}
}

// wait waits before the attempt after attempt n, which failed with an error: as long as
// the server wants. The error is that one if this is too long, or that of the context.
func (p *Place) wait(ctx context.Context, n int, failed error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	pause := p.pause << n
	pause = pause/2 + rand.N(pause/2+1)
	if s := (*grpc.Status)(nil); errors.As(failed, &s) && s.Pause > pause {
		if pause = s.Pause; pause > maxPause {
			return failed
		}
	}
	t := time.NewTimer(pause)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
