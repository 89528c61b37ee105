package reapi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"layered.build/builder/registry/grpc"
)

const (
	// maxBatch is less than what gRPC's libraries take as one message (4 MiB).
	maxBatch = 4<<20 - 64<<10
	// small is the size up to which a blob is sent and read in one message.
	small = 1 << 20
)

// limits are what a server can do.
type limits struct {
	batch   int64 // how many bytes fit in a call with several blobs
	largest int64 // how large a blob may be; 0: any size
	update  bool  // results may be written
}

// whole is the size up to which a blob fits into a call.
func (l limits) whole() int64 { return min(small, l.batch) }

// knowledge is what is known of a server.
type knowledge struct {
	asking chan struct{} // holds one while somebody asks

	mu     sync.Mutex // guards what follows
	limits *limits    // nil: not known yet
	asked  int        // how often it was asked
	err    error      // of the last time
}

func (k *knowledge) get() (l *limits, asked int, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.limits, k.asked, k.err
}

// learn asks the server once what it can do. One that does not say can do everything. Who
// waits while another asks in vain does not ask again.
func (p *Place) learn(ctx context.Context) (limits, error) {
	k := &p.known
	_, before, _ := k.get()
	select {
	case k.asking <- struct{}{}:
		defer func() { <-k.asking }()
	case <-ctx.Done():
		return limits{}, context.Cause(ctx)
	}
	if l, asked, err := k.get(); l != nil {
		return *l, nil
	} else if asked > before {
		return limits{}, err
	}
	l, err := p.ask(ctx)
	if ctx.Err() != nil {
		return l, context.Cause(ctx) // says nothing of the server
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.asked, k.err = k.asked+1, err
	if err == nil {
		k.limits = &l
	}
	return l, err
}

func (p *Place) ask(ctx context.Context) (limits, error) {
	raw, err := p.call(ctx, services+"Capabilities/GetCapabilities", grpc.Message(nil).Text(1, p.instance))
	if grpc.CodeOf(err) == grpc.Unimplemented && !errors.Is(err, grpc.ErrNotGRPC) {
		return limits{batch: maxBatch, update: true}, nil
	}
	l := limits{}
	if err == nil {
		l, err = readCapabilities(raw)
	}
	if err != nil {
		return l, fmt.Errorf("ask what the server can do: %w", err)
	}
	return l, nil
}

// readCapabilities reads a ServerCapabilities.
func readCapabilities(raw []byte) (limits, error) {
	l := limits{batch: maxBatch}
	var functions []uint64
	has := false
	err := grpc.Read(raw, func(f grpc.Field) error {
		if f.Number != 1 {
			return nil
		}
		has = true
		return grpc.Read(f.Bytes, func(f grpc.Field) error { // CacheCapabilities
			switch f.Number {
			case 1:
				functions = append(functions, f.Numbers()...)
			case 2: // ActionCacheUpdateCapabilities
				return grpc.Read(f.Bytes, func(f grpc.Field) error {
					l.update = l.update || f.Number == 1 && f.Varint == 1
					return nil
				})
			case 4:
				if n := int64(f.Varint); n > 0 {
					l.batch = min(l.batch, n)
				}
			case 8:
				l.largest = max(0, int64(f.Varint))
			}
			return nil
		})
	})
	const sha256 = 1
	switch {
	case err != nil:
		return l, err
	case !has:
		return l, errors.New("the server has no cache")
	case !slices.Contains(functions, sha256):
		return l, errors.New("the server does not know sha256")
	}
	return l, nil
}
