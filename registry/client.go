package registry

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/semaphore"

	"layered.build/builder/registry/config"
	"layered.build/builder/registry/credentials"
	"layered.build/builder/snapshot"
)

// Client talks to registries. It is safe for concurrent use.
type Client struct {
	store  *snapshot.Store
	images *Images
	opts   Options
	limits Timeouts
	routes *routing
	keys   *credentials.Keychain
	// transfers bounds the blobs that are moved at once.
	transfers *semaphore.Weighted
	// compressions bounds the layers that are compressed at once, which costs
	// memory; each keeps several cores busy.
	compressions *semaphore.Weighted

	mu       sync.Mutex
	hosts    map[string]*host    // guarded by mu
	sessions map[string]*session // guarded by mu
	// down are mirrors that do not answer, and since when.
	down map[string]time.Time // guarded by mu
	// work are the layers being compressed or pushed, and those that have been.
	work map[string]*job // guarded by mu
}

// New makes a client that keeps what it fetches in store and images.
func New(store *snapshot.Store, images *Images, opts Options) (*Client, error) {
	if opts.Config == nil {
		cfg, err := config.SystemFiles().Read()
		if err != nil {
			return nil, err
		}
		opts.Config = cfg
	}
	routes, err := newRouting(opts.Mirrors, opts.Insecure, opts.Config)
	if err != nil {
		return nil, err
	}
	opts.Retry = opts.Retry.withDefaults()
	opts.Parallel = cmp.Or(opts.Parallel, 4)
	return &Client{
		store: store, images: images, opts: opts, limits: opts.Timeouts.withDefaults(),
		routes: routes, keys: credentials.New(opts.ConfigDir),
		compressions: semaphore.NewWeighted(maxCompressions),
		transfers:    semaphore.NewWeighted(int64(opts.Parallel)),
		hosts:        map[string]*host{}, sessions: map[string]*session{}, work: map[string]*job{},
		down: map[string]time.Time{},
	}, nil
}

// Store returns the layer store that the client was made with.
func (c *Client) Store() *snapshot.Store { return c.store }

// Images returns the images that the client was made with.
func (c *Client) Images() *Images { return c.images }

// Options say how registries are reached. The zero value is what docker does.
type Options struct {
	// ConfigDir is the folder of docker's config.json; "" means $DOCKER_CONFIG,
	// else ~/.docker.
	ConfigDir string
	// Config is what the configuration files say; nil reads those of this machine.
	Config *config.Config
	// Mirrors are lines "REGISTRY=URL" (docker.io=http://127.0.0.1:5000). Mirrors
	// of one registry are tried in order, then those of the environment and the
	// configuration files, then the registry itself.
	Mirrors []string
	// Insecure are registries (host[:port] or CIDR) that may be reached by http
	// or with a certificate that does not verify.
	Insecure []string
	// UserAgent is sent with every request.
	UserAgent string
	// Parallel is how many blobs are transferred at once (0: 4).
	Parallel int
	Retry    Retry
	Timeouts Timeouts
}

// Retry says how often a request that failed for a passing reason (429, 5xx, a
// broken connection) is made again. Zero fields take defaults.
type Retry struct {
	// Attempts counts the first one too (0: 5).
	Attempts int
	// Wait is the pause after the first failure; it doubles up to MaxWait (0:
	// 250 ms and 8 s). Retry-After is honoured up to MaxWait.
	Wait, MaxWait time.Duration
}

// Timeouts bound how long a silent peer is waited for. Zero fields take defaults.
type Timeouts struct {
	// Dial, TLS and Header bound the steps of a request (0: 10 s, 10 s, 60 s).
	Dial, TLS, Header time.Duration
	// Stall is how long a body may stand still (0: 60 s).
	Stall time.Duration
}

// PushOptions say what a pushed image looks like.
type PushOptions struct {
	// DockerTypes makes Docker's media types where the image has no manifest yet.
	DockerTypes bool
	// Insecure treats this registry as an insecure one, for this push.
	Insecure bool
	// Compression is that of layers which PushLayers sends for an image of another
	// form; an image that Shape made has it already.
	Compression Compression
	// ByDigest gives the image no tag.
	ByDigest bool
}

func (r Retry) withDefaults() Retry {
	return Retry{
		Attempts: cmp.Or(r.Attempts, 5),
		Wait:     cmp.Or(r.Wait, 250*time.Millisecond),
		MaxWait:  cmp.Or(r.MaxWait, 8*time.Second),
	}
}

// again calls f until it succeeds, fails for a lasting reason, or has been tried
// often enough. It waits longer each time.
func (c *Client) again(ctx context.Context, f func() error) error {
	return c.times(ctx, c.opts.Retry.Attempts, f)
}

// refusedAttempts is how often to knock where nobody listens.
const refusedAttempts = 3

func (c *Client) times(ctx context.Context, attempts int, f func() error) error {
	wait := c.opts.Retry.Wait
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || attempt >= attempts || !passing(err) || ctx.Err() != nil {
			return err
		}
		if errors.Is(err, syscall.ECONNREFUSED) {
			attempts = min(attempts, refusedAttempts)
		}
		var se *statusError
		pause := wait
		if errors.As(err, &se) && se.retryAfter > pause {
			pause = min(se.retryAfter, c.opts.Retry.MaxWait)
		}
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		wait = min(2*wait, c.opts.Retry.MaxWait)
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// mirrorRest is how long a mirror that did not answer is left alone.
const mirrorRest = time.Minute

// rests reports whether an endpoint is a mirror that did not answer of late.
func (c *Client) rests(ep endpoint) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	since, ok := c.down[ep.host]
	return ep.mirror && ok && time.Since(since) < mirrorRest
}

// noteDown remembers a mirror that does not answer, so that not every request
// has to find out again.
func (c *Client) noteDown(ep endpoint, err error) {
	if ep.mirror && errors.Is(err, ErrUnreachable) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.down[ep.host] = time.Now()
	}
}
